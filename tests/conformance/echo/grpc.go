package main

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The call, as the image that the suite names has it: `rpc Echo(EchoRequest) returns (EchoResponse)`, each message one text of number 1. So
// has StringValue, which is why nothing needs to be generated.
const (
	echoService = "proto.EchoTestService"
	echoMethod  = "Echo"
)

type echoer interface {
	echo(context.Context, *wrapperspb.StringValue) (*wrapperspb.StringValue, error)
}

var echoDescription = grpc.ServiceDesc{
	ServiceName: echoService,
	HandlerType: (*echoer)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: echoMethod, Handler: handleEcho}},
	Metadata:    "echo.proto",
}

func handleEcho(server any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	request := new(wrapperspb.StringValue)
	if err := decode(request); err != nil {
		return nil, err
	}
	return server.(echoer).echo(ctx, request)
}

// grpcEcho answers the calls of one listener.
type grpcEcho struct{ local net.Addr }

func (g grpcEcho) echo(ctx context.Context, request *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	var fields Fields
	headers, _ := metadata.FromIncomingContext(ctx)
	// A call that is answered is a success; the suite counts in HTTP's codes.
	fields.Add("StatusCode", "200")
	for _, authority := range headers.Get(":authority") {
		fields.Add("Host", authority)
	}
	fields.Add("Proto", "GRPC")
	fields.AddHeaders("RequestHeader", headers)
	var remote net.Addr
	if caller, ok := peer.FromContext(ctx); ok {
		remote = caller.Addr
	}
	fields.AddPlace(g.local, remote)
	fields.Add("Echo", request.GetValue())
	return wrapperspb.String(fields.String()), nil
}

func serveGRPC(listener net.Listener) error {
	server := grpc.NewServer()
	server.RegisterService(&echoDescription, grpcEcho{listener.Addr()})
	return server.Serve(listener)
}
