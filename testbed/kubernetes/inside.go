package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// The descriptors that `up` leaves to the process inside.
const (
	beginDescriptor = 3
	sayDescriptor   = 4
	// The lock of the directory, which is held as long as this is open.
	lockDescriptor = 5
)

// inside is the first process of the namespaces: it starts the components, collects orphans, and everything ends with it.
func inside(arguments []string) error {
	p, err := options("inside", arguments)
	if err != nil {
		return err
	}
	for _, descriptor := range []int{beginDescriptor, sayDescriptor, lockDescriptor} {
		unix.CloseOnExec(descriptor)
	}
	begin, say := os.NewFile(beginDescriptor, "begin"), os.NewFile(sayDescriptor, "say")
	// Until the network is there; without a starter it never will be.
	if _, err := io.ReadFull(begin, make([]byte, 1)); err != nil {
		return errors.New("whoever started this has gone")
	}
	begin.Close()
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	if err := setUpMounts(p); err != nil {
		return err
	}
	if err := makeGroups(p); err != nil {
		return fmt.Errorf("cannot make control groups: %w", err)
	}
	if err := setUpNetwork(p); err != nil {
		return fmt.Errorf("cannot set up the network: %w", err)
	}
	if err := configure(p); err != nil {
		return fmt.Errorf("cannot write the configuration: %w", err)
	}
	all := newProcesses(p)
	go all.collectOrphans()
	err = start(p, all, say)
	if err == nil {
		_, err = fmt.Fprintln(say, ready)
	}
	if err == nil {
		say.Close()
		<-told
	} else {
		fmt.Fprintln(say, err)
	}
	// The kernel does not return before all others in the namespace have ended.
	unix.Kill(-1, unix.SIGKILL)
	all.wait()
	return errors.Join(err, removeGroups(p))
}

// setUpMounts hides what the machine's own programs keep where those in here do.
func setUpMounts(p *place) error {
	// First nothing made here shows outside, then what is made here shows in all namespaces made from this one.
	for _, propagation := range []uintptr{unix.MS_PRIVATE, unix.MS_SHARED} {
		if err := unix.Mount("", "/", "", unix.MS_REC|propagation, ""); err != nil {
			return fmt.Errorf("cannot make mounts private: %w", err)
		}
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("cannot mount /proc: %w", err)
	}
	for _, setting := range settings {
		if err := pretend(p, setting); err != nil {
			return fmt.Errorf("cannot hide %s: %w", setting, err)
		}
	}
	for _, folder := range hidden {
		if err := unix.Mount("tmpfs", folder, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("cannot mount %s: %w", folder, err)
		}
	}
	return nil
}

// settings are those of the whole machine that a kubelet writes when it starts.
var settings = []string{
	"kernel/keys/root_maxbytes", "kernel/keys/root_maxkeys", "kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory", "vm/panic_on_oom",
}

// pretend lays a file over a setting, which then only seems to change.
func pretend(p *place, setting string) error {
	path := filepath.Join("/proc/sys", setting)
	value, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	copied := p.file("settings", filepath.Base(setting))
	if err := writeWhole(copied, value); err != nil {
		return err
	}
	return unix.Mount(copied, path, "", unix.MS_BIND, "")
}

// makeGroups makes the control group that those of pods are in, in each hierarchy.
func makeGroups(p *place) error {
	for _, root := range hierarchies() {
		group := filepath.Join(root, p.group())
		if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		// In version 1 nothing can be in a group that has no cores or no memory.
		for _, set := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(root, set))
			if err != nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(group, set), value, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// hierarchies are all of them in version 1, and the one in version 2.
func hierarchies() []string {
	files, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	var found []string
	for _, file := range files {
		found = append(found, filepath.Dir(file))
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err == nil {
		return []string{"/sys/fs/cgroup"}
	}
	return found
}

// removeGroups removes the control groups of pods. Nothing may be in them any more.
func removeGroups(p *place) error {
	for _, root := range hierarchies() {
		if err := removeTree(filepath.Join(root, p.group())); err != nil {
			return err
		}
	}
	return nil
}

func removeTree(folder string) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(folder, entry.Name())); err != nil {
				return err
			}
		}
	}
	return unix.Rmdir(folder)
}
