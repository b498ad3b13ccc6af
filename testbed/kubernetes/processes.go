package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// processes are the components that run.
type processes struct {
	place *place
	lock  sync.Mutex
	// own are those that somebody waits for.
	own map[int]bool
	// ended says how those did that ended.
	ended map[string]string
}

func newProcesses(p *place) *processes {
	return &processes{place: p, own: map[int]bool{}, ended: map[string]string{}}
}

// component starts one of the programs compiled into this one, and starts it again whenever it is killed or fails.
func (all *processes) component(name string, arguments ...string) error {
	command := exec.Command("/proc/self/exe", append([]string{name}, arguments...)...)
	return all.begin(name, command, func(state *os.ProcessState) {
		if state.Success() {
			return
		}
		time.Sleep(time.Second)
		if err := all.component(name, arguments...); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		}
	})
}

// start starts a program, whose output goes to a file of its name.
func (all *processes) start(name string, command *exec.Cmd) error {
	return all.begin(name, command, func(*os.ProcessState) {})
}

// begin starts a program, and says how it ended when it has.
func (all *processes) begin(name string, command *exec.Cmd, ended func(*os.ProcessState)) error {
	log, err := os.OpenFile(all.place.file("log", name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	command.Dir = "/"
	all.lock.Lock()
	defer all.lock.Unlock()
	if err := command.Start(); err != nil {
		return fmt.Errorf("cannot start %s: %w", name, err)
	}
	all.own[command.Process.Pid] = true
	go func() {
		err := command.Wait()
		all.lock.Lock()
		delete(all.own, command.Process.Pid)
		all.ended[name] = fmt.Sprint("it ended: ", command.ProcessState)
		all.lock.Unlock()
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		}
		ended(command.ProcessState)
	}()
	return nil
}

// run runs a program to its end.
func (all *processes) run(command *exec.Cmd) error {
	var said strings.Builder
	command.Stdout, command.Stderr = &said, &said
	command.Dir = "/"
	all.lock.Lock()
	err := command.Start()
	if err == nil {
		all.own[command.Process.Pid] = true
	}
	all.lock.Unlock()
	if err != nil {
		return err
	}
	err = command.Wait()
	all.lock.Lock()
	delete(all.own, command.Process.Pid)
	all.lock.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(command.Path), err, strings.TrimSpace(said.String()))
	}
	return nil
}

// until waits for a component to answer, and not for one that has ended.
func (all *processes) until(name string, answers func() error) error {
	const pause, most = 100 * time.Millisecond, 2 * time.Minute
	var last error
	for deadline := time.Now().Add(most); time.Now().Before(deadline); time.Sleep(pause) {
		if last = answers(); last == nil {
			return nil
		}
		all.lock.Lock()
		ended, has := all.ended[name]
		all.lock.Unlock()
		if has {
			return fmt.Errorf("%s: %s", name, ended)
		}
	}
	return fmt.Errorf("%s does not answer after %s: %w", name, most, last)
}

// collectOrphans collects what ends and was left to the first process, as containers' shims are.
func (all *processes) collectOrphans() {
	for ; ; time.Sleep(time.Second) {
		stats, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, path := range stats {
			all.collect(path)
		}
	}
}

func (all *processes) collect(path string) {
	content, err := os.ReadFile(path)
	if err != nil {
		return
	}
	process, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
	// A command's name may hold anything.
	after := string(content[bytes.LastIndexByte(content, ')')+1:])
	all.lock.Lock()
	defer all.lock.Unlock()
	if strings.HasPrefix(after, " Z 1 ") && !all.own[process] {
		unix.Wait4(process, nil, unix.WNOHANG, nil)
	}
}

// wait collects until nothing is left.
func (all *processes) wait() {
	for {
		if _, err := syscall.Wait4(-1, nil, 0, nil); err == syscall.ECHILD {
			return
		}
	}
}
