// control-plane serves what it is told over xDS, and tells what it is asked: Envoy's go-control-plane, driven by the tests.
//
// It does the protocol by itself, both as deltas and as the state of the world, and knows nothing of Canopy: resources are
// bytes under a type and a name. Commands come as JSON, one after the other, on the standard input; events go out as lines
// of JSON on the standard output (commands.go and events.go say which). It ends with its input. Nothing but tests may run it.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "control-plane: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	var options Options
	flag.StringVar(&options.Listen, "listen", "127.0.0.1:0", "where to listen: IP:PORT, or unix:PATH")
	flag.StringVar(&options.Certificate, "certificate", "", "PEM file with the certificate; plaintext without")
	flag.StringVar(&options.Key, "key", "", "PEM file with its key")
	flag.StringVar(&options.ClientRoots, "client-roots", "", "PEM file with what clients' certificates have to lead to")
	idle := flag.Bool("stopped", false, "listen only when told to start")
	flag.Parse()

	events := NewEvents(os.Stdout)
	store := NewStore()
	server, err := NewServer(options, store, events)
	if err != nil {
		return err
	}
	if !*idle {
		if err := server.Start(); err != nil {
			return err
		}
	}
	return obey(json.NewDecoder(os.Stdin), &Commands{store: store, server: server}, events)
}

// obey carries out commands until there are no more.
func obey(input *json.Decoder, commands *Commands, events *Events) error {
	for {
		var command Command
		if err := input.Decode(&command); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("what came in is no command: %w", err)
		}
		answer := Event{Event: "done", ID: command.ID}
		if err := commands.Do(&command, &answer); err != nil {
			answer.Event, answer.Error = "failed", err.Error()
		}
		events.Tell(answer)
	}
}
