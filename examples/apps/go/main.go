// Command greeter says hello, and stops without dropping a request.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	stop, done := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer done()
	if err := serve(stop, net.JoinHostPort("", env("PORT", "8080")), env("GREETING", "Hello")); err != nil {
		log.Fatal(err)
	}
}

func serve(stop context.Context, address, greeting string) error {
	server := &http.Server{
		Addr:              address,
		Handler:           routes(greeting),
		ReadHeaderTimeout: 10 * time.Second,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	log.Printf("listening on %s", address)

	select {
	case err := <-failed:
		return err
	case <-stop.Done():
	}
	log.Print("stopping: finishing the requests in flight")
	grace, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return err
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func routes(greeting string) http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("/healthz", func(reply http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(reply, "ok")
	})
	routes.HandleFunc("/", func(reply http.ResponseWriter, request *http.Request) {
		if request.URL.Path != "/" {
			http.NotFound(reply, request)
			return
		}
		reply.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(reply, "%s from Go\n", greeting)
	})
	return routes
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
