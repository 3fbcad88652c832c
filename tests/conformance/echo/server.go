package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// Ports are those of one kind; the flag may be given several times.
type Ports []int

// or is the port that counts where the flag is not given. Some of the suite's pods give none.
func (p Ports) or(port int) Ports {
	if len(p) == 0 {
		return Ports{port}
	}
	return p
}

func (p *Ports) String() string { return fmt.Sprint(*p) }

// Set takes one more.
func (p *Ports) Set(text string) error {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return fmt.Errorf("%q is no port", text)
	}
	*p = append(*p, int(port))
	return nil
}

// serve answers on all ports that it is told, until it is stopped.
func serve(arguments []string) error {
	var plain, secure, grpc, tcp Ports
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.Var(&plain, "port", "a port for HTTP/1.1 and HTTP/2; 8080 if not said")
	flags.Var(&secure, "tls", "which of these is behind TLS")
	flags.Var(&grpc, "grpc", "a port for gRPC; 7070 if not said")
	flags.Var(&tcp, "tcp", "a port on which each connection is answered its first line; 9090 if not said")
	crt := flags.String("crt", "", "PEM file with the certificate; one of its own where the file is not there")
	key := flags.String("key", "", "PEM file with its key")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is no flag", flags.Arg(0))
	}

	failed := make(chan error)
	start := func(port int, run func(net.Listener) error) error {
		listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		fmt.Printf("listening on port %d\n", port)
		go func() { failed <- run(listener) }()
		return nil
	}
	for _, port := range plain.or(8080) {
		run := serveHTTP
		if slices.Contains(secure, port) {
			run = func(listener net.Listener) error { return serveTLS(listener, *crt, *key) }
		}
		if err := start(port, run); err != nil {
			return err
		}
	}
	for _, port := range grpc.or(7070) {
		if err := start(port, serveGRPC); err != nil {
			return err
		}
	}
	for _, port := range tcp.or(9090) {
		if err := start(port, serveTCP); err != nil {
			return err
		}
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err := <-failed:
		return err
	case <-stop:
		return nil
	}
}

// httpServer speaks HTTP/1.1 and, told by its first bytes or by ALPN, HTTP/2.
func httpServer() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: http.HandlerFunc(answer), Protocols: &protocols, ReadHeaderTimeout: 30 * time.Second}
}

func serveHTTP(listener net.Listener) error { return httpServer().Serve(listener) }

func serveTLS(listener net.Listener, crt, key string) error {
	server := httpServer()
	if _, err := os.Stat(crt); err == nil {
		return server.ServeTLS(listener, crt, key)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	own, err := selfSigned()
	if err != nil {
		return err
	}
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{own}}
	return server.ServeTLS(listener, "", "")
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"echo"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(1, 0, 0),
	}
	signed, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{signed}, PrivateKey: key}, err
}

func answer(writer http.ResponseWriter, request *http.Request) {
	var fields Fields
	fields.Add("Host", request.Host)
	// As it came: what a proxy has done to the path is to be seen.
	fields.Add("URL", request.RequestURI)
	fields.Add("Method", request.Method)
	fields.Add("Proto", request.Proto)
	if request.TLS != nil {
		fields.Add("Alpn", request.TLS.NegotiatedProtocol)
	}
	local, _ := request.Context().Value(http.LocalAddrContextKey).(net.Addr)
	remote, _ := net.ResolveTCPAddr("tcp", request.RemoteAddr)
	fields.AddHeaders("RequestHeader", request.Header)
	fields.AddPlace(local, remote)
	writer.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = writer.Write([]byte(fields.String()))
}

// serveTCP answers the first line of each connection with who it was that read it, and closes.
func serveTCP(listener net.Listener) error {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			_ = connection.SetDeadline(time.Now().Add(30 * time.Second))
			line, err := bufio.NewReader(connection).ReadString('\n')
			if err != nil {
				return
			}
			var fields Fields
			fields.Add("StatusCode", "200")
			fields.Add("Proto", "TCP")
			fields.AddPlace(connection.LocalAddr(), connection.RemoteAddr())
			fields.Add("Echo", line)
			_, _ = connection.Write([]byte(fields.String()))
		}()
	}
}
