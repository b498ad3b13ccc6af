package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	startMax = 5 * time.Minute
	stopMax  = time.Minute
	// ready is what the process inside says last.
	ready = "ready"
)

// up starts a testbed, and returns once it serves.
func up(arguments []string) error {
	p, err := options("up", arguments)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("only root can make the namespaces that a testbed lives in")
	}
	lock, err := own(p.Directory)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := clean(p.Directory); err != nil {
		return err
	}
	if err := os.MkdirAll(p.file("log"), 0o755); err != nil {
		return err
	}
	if err := reserve(p); err != nil {
		return err
	}
	child, said, err := spawn(p, lock)
	if err != nil {
		return err
	}
	if err := follow(said); err != nil {
		child.Kill()
		child.Wait()
		return errors.Join(fmt.Errorf("%w; see the files in %s", err, p.file("log")), clean(p.Directory))
	}
	return nil
}

// reserve takes the first network that no other testbed has: whoever makes the device has it.
func reserve(p *place) error {
	for p.Network = range networksMax {
		link := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: p.device()},
			PeerName:  p.device() + "p",
		}
		err := netlink.LinkAdd(link)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		return err
	}
	return fmt.Errorf("all %d networks of testbeds are taken", networksMax)
}

// spawn starts the first process inside, connects its network with the machine's, and lets it begin.
func spawn(p *place, lock *os.File) (*os.Process, io.Reader, error) {
	remove := func() {
		if link, err := netlink.LinkByName(p.device()); err == nil {
			netlink.LinkDel(link)
		}
	}
	log, err := os.Create(p.file("log", "testbed.log"))
	if err != nil {
		remove()
		return nil, nil, err
	}
	defer log.Close()
	begin, let, err := os.Pipe()
	if err != nil {
		remove()
		return nil, nil, err
	}
	defer begin.Close()
	defer let.Close()
	said, say, err := os.Pipe()
	if err != nil {
		remove()
		return nil, nil, err
	}
	defer say.Close()
	command := exec.Command("/proc/self/exe", "inside", "--dir", p.Directory, "--programs", p.Programs,
		"--network", strconv.Itoa(p.Network), "--nodes", strconv.Itoa(p.Simulated))
	command.Dir = "/"
	command.Stdout, command.Stderr = log, log
	command.ExtraFiles = []*os.File{begin, say, lock}
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		Setsid:     true,
	}
	if err := command.Start(); err != nil {
		remove()
		return nil, nil, fmt.Errorf("cannot make namespaces: %w", err)
	}
	// From here on the device ends with the child's network namespace, once its far end is in there.
	if err := introduce(p, command.Process.Pid); err != nil {
		command.Process.Kill()
		command.Wait()
		remove()
		return nil, nil, err
	}
	_, err = let.Write([]byte{1})
	return command.Process, said, err
}

// introduce connects the child's network, and writes down where everything is, so that `down` finds it however this ends.
func introduce(p *place, child int) error {
	if err := connect(p, child); err != nil {
		return err
	}
	var err error
	p.Supervisor = child
	if p.Started, err = startOf(child); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	told, err := p.facts(self)
	if err != nil {
		return err
	}
	return writeJSON(p.file(factsName), told)
}

// connect gives the child the far end, and the machine its address and the ways to pods and services.
func connect(p *place, child int) error {
	near, err := netlink.LinkByName(p.device())
	if err != nil {
		return err
	}
	far, err := netlink.LinkByName(p.device() + "p")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetNsPid(far, child); err != nil {
		return err
	}
	if err := address(near, netip.PrefixFrom(p.machine(), 24)); err != nil {
		return err
	}
	for _, beyond := range []netip.Prefix{p.pods(), p.services()} {
		if err := route(near, &beyond, p.node()); err != nil {
			return err
		}
	}
	return nil
}

// follow passes on what the child says until it is ready.
func follow(said io.Reader) error {
	lines := make(chan string)
	go func() {
		scanner := bufio.NewScanner(said)
		for scanner.Scan() {
			lines <- scanner.Text()
		}
		close(lines)
	}()
	deadline := time.After(startMax)
	for {
		select {
		case line, more := <-lines:
			switch {
			case !more:
				return errors.New("the testbed ended while it started")
			case line == ready:
				return nil
			default:
				fmt.Println(line)
			}
		case <-deadline:
			return fmt.Errorf("the testbed was not ready after %s", startMax)
		}
	}
}

// down ends a testbed, and everything in it.
func down(arguments []string) error {
	p, err := options("down", arguments)
	if err != nil {
		return err
	}
	running, err := find(p.Directory)
	if err != nil {
		return err
	}
	if running != nil {
		if err := end(running.Supervisor); err != nil {
			return err
		}
	}
	if _, err := os.Stat(p.Directory); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	lock, err := own(p.Directory)
	if err != nil {
		return err
	}
	defer lock.Close()
	return clean(p.Directory)
}

// own makes a directory this process's, unless it is somebody else's, or of something else.
func own(directory string) (*os.File, error) {
	const marker = "lock"
	entries, err := os.ReadDir(directory)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	path := directory + "/" + marker
	if _, err := os.Stat(path); len(entries) > 0 && errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s has files in it, and is no testbed's: choose a directory that is empty", directory)
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("a testbed runs in %s already, or is about to", directory)
	}
	return lock, nil
}

// end tells the first process to end, and makes it if it does not.
func end(supervisor int) error {
	descriptor, err := unix.PidfdOpen(supervisor, 0)
	if err != nil {
		return err
	}
	defer unix.Close(descriptor)
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(descriptor, signal, nil, 0); errors.Is(err, unix.ESRCH) {
			return nil
		}
		ended := []unix.PollFd{{Fd: int32(descriptor), Events: unix.POLLIN}}
		if count, err := unix.Poll(ended, int(stopMax.Milliseconds())); err == nil && count == 1 {
			return nil
		}
	}
	return fmt.Errorf("process %d does not end", supervisor)
}

// find returns the testbed that runs in a directory, if one does.
func find(directory string) (*facts, error) {
	found, err := readFacts(directory)
	if err != nil || found == nil {
		return nil, err
	}
	if started, err := startOf(found.Supervisor); err != nil || started != found.Started {
		return nil, nil
	}
	return found, nil
}

// clean removes what a testbed that has ended left: control groups, and files but for its logs.
func clean(directory string) error {
	found, err := readFacts(directory)
	if err != nil {
		return err
	}
	if found != nil {
		if err := removeGroups(&found.place); err != nil {
			return err
		}
	}
	for _, name := range written {
		if err := os.RemoveAll(directory + "/" + name); err != nil {
			return err
		}
	}
	return nil
}

// written is all that a testbed writes, but for its logs. The last tells of the others.
var written = []string{
	"apply.json", "cni", "containerd", "containerd.toml", "contour.json", "envoy.json", "etcd", "kubeconfig",
	"kubelet.json", "image.tar", "pki", "registries", "settings", factsName,
}

// status says whether a testbed runs, and how its nodes are.
func status(arguments []string) error {
	p, err := options("status", arguments)
	if err != nil {
		return err
	}
	running, err := find(p.Directory)
	if err != nil {
		return err
	}
	if running == nil {
		return fmt.Errorf("no testbed runs in %s", p.Directory)
	}
	fmt.Printf("kubeconfig  %s\ngateway     %s\n", running.Kubeconfig, running.Gateway)
	words := append(running.Kubectl[1:], "get", "nodes", "--output", "wide")
	command := exec.Command(running.Kubectl[0], words...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	return command.Run()
}

// startOf returns when a process started.
func startOf(process int) (uint64, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process))
	if err != nil {
		return 0, err
	}
	// The name is in parentheses and may itself hold any character.
	after := string(content[bytes.LastIndexByte(content, ')')+1:])
	fields := strings.Fields(after)
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat is malformed", process)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}
