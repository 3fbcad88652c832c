package main

import (
	"fmt"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
)

// paged sends what go-control-plane says at once in several responses, as the protocol lets a server do: only the last has the
// nonce that go-control-plane knows, so an answer to another is to none of its own. Each waits as long as a response does.
type paged struct {
	grpc.ServerStream
	streams *Streams
}

// SendMsg is called by go-control-plane.
func (stream paged) SendMsg(message any) error {
	response, ok := message.(*discovery.DeltaDiscoveryResponse)
	most := int(stream.streams.page.Load())
	if !ok || most <= 0 {
		return stream.ServerStream.SendMsg(message)
	}
	all := response.GetResources()
	for number := 1; len(all) > most; number++ {
		part := &discovery.DeltaDiscoveryResponse{
			SystemVersionInfo: response.GetSystemVersionInfo(),
			TypeUrl:           response.GetTypeUrl(),
			Nonce:             fmt.Sprintf("%s, part %d", response.GetNonce(), number),
			Resources:         all[:most],
		}
		if err := stream.ServerStream.SendMsg(part); err != nil {
			return err
		}
		time.Sleep(time.Duration(stream.streams.delay.Load()))
		all = all[most:]
	}
	last := &discovery.DeltaDiscoveryResponse{
		SystemVersionInfo: response.GetSystemVersionInfo(),
		TypeUrl:           response.GetTypeUrl(),
		Nonce:             response.GetNonce(),
		Resources:         all,
		RemovedResources:  response.GetRemovedResources(),
	}
	return stream.ServerStream.SendMsg(last)
}
