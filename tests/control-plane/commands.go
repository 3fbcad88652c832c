package main

import (
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	// Types that a set_json may name beside those that the server brings along: what an Envoy needs to route HTTP.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
)

// Command is one command. What it is called says which of the fields it has:
//
//	set       type, name, body; aliases, found_by, body_type
//	set_json  type, name, json; aliases, found_by: a message of go-control-plane's, as protobuf's JSON
//	remove    type, name
//	batch     changes: any of the three above, at once
//	delay     milliseconds: before each response from now on
//	drop      code, message: ends all streams; the connections stay
//	refuse    code, message: every stream from now on; code 0 ends that
//	ignore    types: requests about these, and no others, get no answer at all, as from one that does not know them
//	page      count: resources that a response brings at most from now on; the rest in further ones. 0 is all at once
//	receive   count: bytes of the largest request that is taken, from the next start on
//	stop      closes the listener and all connections
//	start     listens again, where it did before
//	totals
type Command struct {
	// Comes back with the answer.
	ID uint64 `json:"id"`
	Do string `json:"do"`
	Change
	Changes      []Change `json:"changes"`
	Types        []string `json:"types"`
	Milliseconds int64    `json:"milliseconds"`
	Count        int      `json:"count"`
	// Of gRPC; UNAVAILABLE (14) where a drop has none.
	Code    uint32 `json:"code"`
	Message string `json:"message"`
}

// Change is what happens to one resource: it is removed where neither body nor json is there.
type Change struct {
	Type string `json:"type"`
	Name string `json:"name"`
	// The encoded message; as base64.
	Body []byte          `json:"body"`
	JSON json.RawMessage `json:"json"`
	// Other names by which it can be asked for.
	Aliases []string `json:"aliases"`
	// Further such names, which are not told with it: a pod is found by its Service's, which is not its own.
	FoundBy []string `json:"found_by"`
	// What its body is said to be, if not of the resource's type.
	BodyType string `json:"body_type"`
}

// Commands carries commands out.
type Commands struct {
	store  *Store
	server *Server
}

// Do carries out one; what was asked for is written into the answer.
func (commands *Commands) Do(command *Command, answer *Event) error {
	switch command.Do {
	case "set", "set_json", "remove":
		return commands.change([]Change{command.Change})
	case "batch":
		return commands.change(command.Changes)
	case "delay":
		commands.server.Delay(time.Duration(command.Milliseconds) * time.Millisecond)
	case "drop":
		commands.server.Drop(command.Code, command.Message)
	case "refuse":
		commands.server.Refuse(command.Code, command.Message)
	case "ignore":
		commands.store.Ignore(command.Types)
	case "page":
		commands.server.Page(command.Count)
	case "receive":
		commands.server.Receive(command.Count)
	case "stop":
		commands.server.Stop()
	case "start":
		return commands.server.Start()
	case "totals":
		totals := commands.server.Totals()
		answer.Totals = &totals
	default:
		return fmt.Errorf("there is no command %q", command.Do)
	}
	return nil
}

func (commands *Commands) change(changes []Change) error {
	taken := make([]Resource, 0, len(changes))
	for _, change := range changes {
		if change.Type == "" || change.Name == "" {
			return fmt.Errorf("a change needs the type and the name of what changes: %q, %q", change.Type, change.Name)
		}
		message, err := change.message()
		if err != nil {
			return fmt.Errorf("%s %s: %w", change.Type, change.Name, err)
		}
		taken = append(taken, Resource{
			Type: change.Type, Name: change.Name, Message: message,
			Aliases: change.Aliases, FoundBy: change.FoundBy, BodyType: change.BodyType,
		})
	}
	return commands.store.Change(taken)
}

// message is what is to be served; nil for what is to go.
func (change *Change) message() (proto.Message, error) {
	switch {
	case change.Body != nil:
		// Fields that a message does not know are kept as they came and sent as they were. An empty message knows none, so
		// this is any message, also one that cannot be read.
		message := &emptypb.Empty{}
		message.ProtoReflect().SetUnknown(change.Body)
		return message, nil
	case change.JSON != nil:
		found, err := protoregistry.GlobalTypes.FindMessageByURL(change.Type)
		if err != nil {
			return nil, err
		}
		message := found.New().Interface()
		return message, protojson.Unmarshal(change.JSON, message)
	default:
		return nil, nil
	}
}
