package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	xds "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// Streams is told by go-control-plane of each step of each stream, and tells it on as events.
type Streams struct {
	store  *Store
	events *Events
	// Nanoseconds before each response.
	delay atomic.Int64
	// Resources in a response of deltas, at most; 0 is any number.
	page atomic.Int64

	mutex sync.Mutex
	open  map[key]*stream
	total Totals
}

// go-control-plane counts the streams of each protocol by themselves.
type key struct {
	protocol string
	number   int64
}

type stream struct {
	number         uint64
	node           string
	seen           map[string]bool
	sent, received uint64
}

var _ xds.Callbacks = &Streams{}

// NewStreams knows of none.
func NewStreams(store *Store, events *Events) *Streams {
	return &Streams{store: store, events: events, open: map[key]*stream{}}
}

// Totals are over all streams since the start.
func (streams *Streams) Totals() Totals {
	streams.mutex.Lock()
	defer streams.mutex.Unlock()
	streams.total.Open = uint64(len(streams.open))
	return streams.total
}

// OnDeltaStreamOpen is called by go-control-plane, as are the following.
func (streams *Streams) OnDeltaStreamOpen(context context.Context, number int64, _ string) error {
	streams.opened(context, key{delta, number})
	return nil
}

func (streams *Streams) OnStreamOpen(context context.Context, number int64, _ string) error {
	streams.opened(context, key{sotw, number})
	return nil
}

func (streams *Streams) OnDeltaStreamClosed(number int64, _ *core.Node) {
	streams.closed(key{delta, number})
}

func (streams *Streams) OnStreamClosed(number int64, _ *core.Node) { streams.closed(key{sotw, number}) }

func (streams *Streams) OnStreamDeltaRequest(number int64, request *discovery.DeltaDiscoveryRequest) error {
	streams.asked(key{delta, number}, request.GetNode(), request, Event{
		Type: request.GetTypeUrl(), Nonce: request.GetResponseNonce(), Error: request.GetErrorDetail().GetMessage(),
		Subscribe: request.GetResourceNamesSubscribe(), Unsubscribe: request.GetResourceNamesUnsubscribe(),
		Initial: request.GetInitialResourceVersions(),
	})
	return nil
}

func (streams *Streams) OnStreamRequest(number int64, request *discovery.DiscoveryRequest) error {
	streams.asked(key{sotw, number}, request.GetNode(), request, Event{
		Type: request.GetTypeUrl(), Nonce: request.GetResponseNonce(), Error: request.GetErrorDetail().GetMessage(),
		Subscribe: request.GetResourceNames(),
	})
	return nil
}

func (streams *Streams) OnStreamDeltaResponse(
	number int64, _ *discovery.DeltaDiscoveryRequest, response *discovery.DeltaDiscoveryResponse,
) {
	streams.store.Dress(response)
	names := make([]string, 0, len(response.GetResources()))
	for _, resource := range response.GetResources() {
		names = append(names, resource.GetName())
	}
	streams.answers(key{delta, number}, response, Event{
		Type: response.GetTypeUrl(), Nonce: response.GetNonce(), Names: names, Count: len(names),
		Removed: response.GetRemovedResources(),
	})
}

func (streams *Streams) OnStreamResponse(
	_ context.Context, number int64, _ *discovery.DiscoveryRequest, response *discovery.DiscoveryResponse,
) {
	streams.answers(key{sotw, number}, response, Event{
		Type: response.GetTypeUrl(), Nonce: response.GetNonce(), Count: len(response.GetResources()),
	})
}

func (streams *Streams) OnFetchRequest(context.Context, *discovery.DiscoveryRequest) error {
	return errors.New("only streams are served")
}

func (streams *Streams) OnFetchResponse(*discovery.DiscoveryRequest, *discovery.DiscoveryResponse) {}

func (streams *Streams) opened(context context.Context, key key) {
	streams.mutex.Lock()
	streams.total.Streams++
	opened := &stream{number: streams.total.Streams, seen: map[string]bool{}}
	streams.open[key] = opened
	streams.mutex.Unlock()
	event := Event{Event: "opened", Stream: opened.number, Protocol: key.protocol}
	if headers, ok := metadata.FromIncomingContext(context); ok {
		event.Authorization, event.Cluster = first(headers.Get("authorization")), first(headers.Get("clusterid"))
	}
	streams.events.Tell(event)
}

func (streams *Streams) closed(key key) {
	streams.mutex.Lock()
	closed := streams.open[key]
	delete(streams.open, key)
	streams.mutex.Unlock()
	streams.events.Tell(Event{
		Event: "closed", Stream: closed.number, Node: closed.node, Sent: closed.sent, Received: closed.received,
	})
}

func (streams *Streams) asked(key key, node *core.Node, request proto.Message, event Event) {
	event.Event, event.Bytes = "request", proto.Size(request)
	streams.mutex.Lock()
	asking := streams.open[key]
	asking.received += uint64(event.Bytes)
	streams.total.Received += uint64(event.Bytes)
	streams.total.Requests++
	if node.GetId() != "" {
		asking.node = node.GetId()
	}
	switch {
	case event.Error != "":
		event.Kind = "nack"
	case event.Nonce != "":
		event.Kind = "ack"
	case asking.seen[event.Type]:
		event.Kind = "subscription"
	default:
		event.Kind = "first"
	}
	asking.seen[event.Type] = true
	event.Stream, event.Node = asking.number, asking.node
	streams.mutex.Unlock()
	streams.events.Tell(event)
}

func (streams *Streams) answers(key key, response proto.Message, event Event) {
	event.Event, event.Bytes = "response", proto.Size(response)
	streams.mutex.Lock()
	asking := streams.open[key]
	asking.sent += uint64(event.Bytes)
	streams.total.Sent += uint64(event.Bytes)
	streams.total.Responses++
	event.Stream, event.Node = asking.number, asking.node
	streams.mutex.Unlock()
	// This stream alone waits: go-control-plane has a thread of execution for each.
	time.Sleep(time.Duration(streams.delay.Load()))
	streams.events.Tell(event)
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

const (
	delta = "delta"
	sotw  = "sotw"
)
