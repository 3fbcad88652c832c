package main

import (
	"encoding/json"
	"io"
	"sync"
	"time"
)

// Event is one line of output. Which of the fields are there depends on the event:
//
//	listening  address
//	stopped
//	opened     stream, protocol, and of the request's headers: authorization, cluster
//	request    stream, node, type, kind, nonce, subscribe, unsubscribe, initial, bytes; error of a refusal
//	response   stream, node, type, nonce, names, removed, count, bytes
//	closed     stream, node, sent, received
//	done       id, and what was asked for
//	failed     id, error
type Event struct {
	Event string `json:"event"`
	// Microseconds since 1970.
	At int64 `json:"at_us"`
	// Of the command that is answered.
	ID      uint64 `json:"id,omitempty"`
	Address string `json:"address,omitempty"`

	// Counts up over all streams, whatever they speak.
	Stream uint64 `json:"stream,omitempty"`
	// delta, or sotw.
	Protocol      string `json:"protocol,omitempty"`
	Authorization string `json:"authorization,omitempty"`
	Cluster       string `json:"cluster,omitempty"`
	Node          string `json:"node,omitempty"`

	Type  string `json:"type,omitempty"`
	Nonce string `json:"nonce,omitempty"`
	// Of a request: first, ack, nack, or subscription, which answers nothing.
	Kind        string            `json:"kind,omitempty"`
	Subscribe   []string          `json:"subscribe,omitempty"`
	Unsubscribe []string          `json:"unsubscribe,omitempty"`
	Initial     map[string]string `json:"initial,omitempty"`
	Error       string            `json:"error,omitempty"`
	// Lists are cut off at a thousand; the count never is.
	Names   []string `json:"names,omitempty"`
	Removed []string `json:"removed,omitempty"`
	Count   int      `json:"count,omitempty"`
	// Of the message, without what gRPC and TLS put around it.
	Bytes int `json:"bytes,omitempty"`

	Sent     uint64  `json:"sent,omitempty"`
	Received uint64  `json:"received,omitempty"`
	Totals   *Totals `json:"totals,omitempty"`
}

// Totals are over all streams since the start.
type Totals struct {
	// Streams that are open.
	Open      uint64 `json:"open"`
	Streams   uint64 `json:"streams"`
	Requests  uint64 `json:"requests"`
	Responses uint64 `json:"responses"`
	// Bytes of messages.
	Sent     uint64 `json:"sent"`
	Received uint64 `json:"received"`
}

// Events writes events, each whole.
type Events struct {
	mutex  sync.Mutex
	output io.Writer
}

// NewEvents writes to output.
func NewEvents(output io.Writer) *Events { return &Events{output: output} }

// Tell writes one.
func (events *Events) Tell(event Event) {
	event.At = time.Now().UnixMicro()
	event.Names, event.Removed = short(event.Names), short(event.Removed)
	event.Subscribe, event.Unsubscribe = short(event.Subscribe), short(event.Unsubscribe)
	line, err := json.Marshal(event)
	if err != nil {
		panic(err)
	}
	events.mutex.Lock()
	defer events.mutex.Unlock()
	// Who started it is gone where this fails, and the input ends then, too.
	_, _ = events.output.Write(append(line, '\n'))
}

func short(names []string) []string {
	const most = 1000
	return names[:min(len(names), most)]
}
