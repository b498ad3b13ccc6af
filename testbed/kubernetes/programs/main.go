// The programs that the suites run in pods, and the few commands that they want to find there, as one file of many names.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	name, arguments := filepath.Base(os.Args[0]), os.Args[1:]
	if name == "program" && len(arguments) > 0 {
		name, arguments = arguments[0], arguments[1:]
	}
	if err := run(name, arguments); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func run(name string, arguments []string) error {
	switch name {
	case "cat":
		return cat(arguments)
	case "echo":
		fmt.Println(strings.Join(arguments, " "))
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "false":
		os.Exit(1)
	case "fetch":
		return fetch(arguments[0])
	case "id":
		fmt.Println(os.Getuid())
	case "rm":
		return os.Remove(arguments[0])
	case "sleep":
		return pause(arguments[0])
	case "tee":
		return tee(arguments[0])
	case "true":
	default:
		return program(name, arguments)
	}
	return nil
}

// program runs what ends when it is told to, but for those that end by themselves.
func program(name string, arguments []string) error {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	switch name {
	case "idle":
	case "serve":
		go serve(os.Getenv("PORT"), arguments[0], arguments[1])
	case "serve-elsewhere":
		go serve(arguments[0], "found", "0s")
	case "print":
		fmt.Printf("%s=%s\n", arguments[0], os.Getenv(arguments[0]))
	case "exit":
		fmt.Println("started")
		code, err := strconv.Atoi(arguments[0])
		if err != nil {
			return err
		}
		os.Exit(code)
	case "ignore-stop":
		for range told {
			continue
		}
	case "slow-stop":
		end(<-told, func() error { return pause(arguments[0]) })
	case "eat-memory":
		eat()
	default:
		return fmt.Errorf("no program is called so")
	}
	end(<-told, func() error { return nil })
	return nil
}

func end(told os.Signal, before func() error) {
	names := map[os.Signal]string{syscall.SIGTERM: "SIGTERM", syscall.SIGINT: "SIGINT", syscall.SIGHUP: "SIGHUP", syscall.SIGQUIT: "SIGQUIT"}
	fmt.Println("got " + names[told])
	if err := before(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	fmt.Println("bye")
	os.Exit(0)
}

func serve(port, name, latency string) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		pause(latency)
		fmt.Fprintf(w, "%s %s", name, r.URL.Path)
	}
	fmt.Fprintln(os.Stderr, http.ListenAndServe(":"+port, http.HandlerFunc(handler)))
	os.Exit(1)
}

func eat() {
	var eaten [][]byte
	for {
		mouthful := make([]byte, 1<<20)
		for i := range mouthful {
			mouthful[i] = 1
		}
		eaten = append(eaten, mouthful)
	}
}

func cat(files []string) error {
	if len(files) == 0 {
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		os.Stdout.Write(content)
	}
	return nil
}

func tee(name string) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.MultiWriter(file, os.Stdout), os.Stdin)
	return err
}

func pause(text string) error {
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		text += "s"
	}
	length, err := time.ParseDuration(text)
	time.Sleep(length)
	return err
}

func fetch(address string) error {
	client := http.Client{Timeout: 5 * time.Second}
	answer, err := client.Get("http://" + address + "/")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}
