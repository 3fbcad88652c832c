package conformance

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/gateway-api/conformance/utils/echo"
)

var program = flag.String("echo", "", "the program of the suite's pods, if it is to be tested by itself first")

// What the suite's pods run has to print what the suite reads, or every test fails for a reason that is none of Canopy's.
func TestEchoIsUnderstood(t *testing.T) {
	if *program == "" {
		t.Skip("without -echo")
	}
	port, grpc, tcp := serve(t)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}

	got := ask(t, "http://"+port+"/a/b?c=d", "--method=POST", "-H", "X-One:a:b", "-H", "Host:elsewhere")
	for name, pair := range map[string][2]string{
		"status": {got.Code, "200"}, "name": {got.Hostname, host}, "host": {got.Host, "elsewhere"},
		"path": {got.URL, "/a/b?c=d"}, "method": {got.Method, "POST"}, "protocol": {got.Protocol, "HTTP/1.1"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %q instead of %q", name, pair[0], pair[1])
		}
	}
	if values := got.RequestHeaders.Values("X-One"); !slices.Equal(values, []string{"a:b"}) {
		t.Errorf("X-One: %q", values)
	}
	if values := got.ResponseHeaders.Values("Content-Type"); len(values) != 1 {
		t.Errorf("Content-Type: %q", values)
	}

	got = ask(t, "grpc://"+grpc, "-H", "x-two:2")
	if got.Code != "200" || got.Hostname != host || got.RequestHeaders.Get("X-Two") != "2" {
		t.Errorf("gRPC: %v", got)
	}

	connection, err := net.Dial("tcp", tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	fmt.Fprintln(connection, "hello")
	if said, err := io.ReadAll(connection); err != nil || !strings.Contains(string(said), "\nEcho=hello\n") {
		t.Errorf("TCP: %q, %v", said, err)
	}

	many := output(t, "http://"+port+"/", "--count=3")
	if parts := strings.Split(strings.TrimSpace(many), "\n\n"); len(parts) != 3 {
		t.Errorf("of three requests, %d parts: %s", len(parts), many)
	}
	if err := exec.Command(client(t), "http://127.0.0.1:1/").Run(); err == nil {
		t.Error("a request that nobody answers is no failure")
	}
}

// serve runs the server until the test ends, and says where it listens for HTTP, for gRPC and for TCP.
func serve(t *testing.T) (string, string, string) {
	server := exec.Command(*program, "--port="+free(t), "--grpc="+free(t), "--tcp="+free(t))
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Kill(); server.Wait() })
	var addresses []string
	for _, argument := range server.Args[1:] {
		_, port, _ := strings.Cut(argument, "=")
		address := net.JoinHostPort("127.0.0.1", port)
		await(t, address)
		addresses = append(addresses, address)
	}
	return addresses[0], addresses[1], addresses[2]
}

func await(t *testing.T, address string) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for {
		connection, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			connection.Close()
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("nobody listens at %s: %v", address, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func free(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

// client is the same program under its other name.
func client(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "client")
	absolute, err := filepath.Abs(*program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(absolute, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func ask(t *testing.T, arguments ...string) echo.Response {
	return echo.ParseResponse(output(t, arguments...))
}

func output(t *testing.T, arguments ...string) string {
	command := exec.Command(client(t), arguments...)
	command.Stderr = os.Stderr
	said, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}
