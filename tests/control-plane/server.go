package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	xds "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// Options say where and how it listens.
type Options struct{ Listen, Certificate, Key, ClientRoots string }

// Server listens, or does not, and misbehaves when it is told to. What it serves it keeps while it is stopped.
type Server struct {
	credentials credentials.TransportCredentials
	discovery   xds.Server
	streams     *Streams
	events      *Events

	mutex   sync.Mutex
	address string
	// Bytes of the largest request.
	largest int
	running *grpc.Server
	// Closed when all streams are dropped, and another one made.
	drop chan struct{}
	// What a drop or a refusal ends streams with.
	dropped, refusal error
}

// NewServer does not listen yet.
func NewServer(options Options, store *Store, events *Events) (*Server, error) {
	found, err := transport(options)
	if err != nil {
		return nil, err
	}
	streams := NewStreams(store, events)
	return &Server{
		credentials: found,
		discovery:   xds.NewServer(context.Background(), store, streams),
		streams:     streams,
		events:      events,
		address:     options.Listen,
		// Clients' first request has all that they know.
		largest: 200 << 20,
		drop:    make(chan struct{}),
	}, nil
}

// Start listens; again at the same port, where the first was any.
func (server *Server) Start() error {
	server.mutex.Lock()
	defer server.mutex.Unlock()
	if server.running != nil {
		return fmt.Errorf("it listens already at %s", server.address)
	}
	network, address := "tcp", server.address
	if path, ok := strings.CutPrefix(server.address, "unix:"); ok {
		network, address = "unix", path
		// What one that was killed has left. Who else listens there loses only its name.
		_ = os.Remove(path)
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	if network == "tcp" {
		server.address = listener.Addr().String()
	}
	// Clients look more often whether it lives than gRPC for Go lets them by itself.
	server.running = grpc.NewServer(
		grpc.Creds(server.credentials),
		grpc.StreamInterceptor(server.follow),
		grpc.MaxRecvMsgSize(server.largest),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	discovery.RegisterAggregatedDiscoveryServiceServer(server.running, server.discovery)
	go func(running *grpc.Server) {
		if err := running.Serve(listener); err != nil {
			fmt.Fprintf(os.Stderr, "control-plane: %v\n", err)
		}
	}(server.running)
	server.events.Tell(Event{Event: "listening", Address: server.address})
	return nil
}

// Stop closes the listener and all connections, without a word to those who are connected.
func (server *Server) Stop() {
	server.mutex.Lock()
	running := server.running
	server.running = nil
	server.mutex.Unlock()
	if running != nil {
		running.Stop()
	}
	server.events.Tell(Event{Event: "stopped"})
}

// Delay makes each response wait from now on.
func (server *Server) Delay(delay time.Duration) { server.streams.delay.Store(int64(delay)) }

// Page has each response bring at most so many resources from now on; 0 is any number.
func (server *Server) Page(count int) { server.streams.page.Store(int64(count)) }

// Receive takes no request of more bytes, from the next start on.
func (server *Server) Receive(bytes int) {
	server.mutex.Lock()
	defer server.mutex.Unlock()
	server.largest = bytes
}

// Drop ends all streams with a status.
func (server *Server) Drop(code uint32, message string) {
	if code == 0 {
		code = uint32(codes.Unavailable)
	}
	server.mutex.Lock()
	defer server.mutex.Unlock()
	server.dropped = status.Error(codes.Code(code), message)
	close(server.drop)
	server.drop = make(chan struct{})
}

// Refuse ends every stream from now on with a status, as soon as it is opened; with code 0 no more.
func (server *Server) Refuse(code uint32, message string) {
	server.mutex.Lock()
	defer server.mutex.Unlock()
	server.refusal = status.Error(codes.Code(code), message)
}

// Totals are over all streams since the start.
func (server *Server) Totals() Totals { return server.streams.Totals() }

// follow runs a stream until it ends or is dropped.
func (server *Server) follow(
	service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	server.mutex.Lock()
	drop, refusal := server.drop, server.refusal
	server.mutex.Unlock()
	if refusal != nil {
		return refusal
	}
	ended := make(chan error, 1)
	go func() { ended <- handler(service, paged{stream, server.streams}) }()
	select {
	case err := <-ended:
		return err
	case <-drop:
		// The stream's context ends with this return, and with it the handler.
		server.mutex.Lock()
		defer server.mutex.Unlock()
		return server.dropped
	}
}

func transport(options Options) (credentials.TransportCredentials, error) {
	if options.Certificate == "" {
		return insecure.NewCredentials(), nil
	}
	pair, err := tls.LoadX509KeyPair(options.Certificate, options.Key)
	if err != nil {
		return nil, err
	}
	configuration := &tls.Config{Certificates: []tls.Certificate{pair}}
	if options.ClientRoots != "" {
		roots, err := os.ReadFile(options.ClientRoots)
		if err != nil {
			return nil, err
		}
		configuration.ClientCAs = x509.NewCertPool()
		if !configuration.ClientCAs.AppendCertsFromPEM(roots) {
			return nil, fmt.Errorf("%s has no certificate", options.ClientRoots)
		}
		configuration.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return credentials.NewTLS(configuration), nil
}
