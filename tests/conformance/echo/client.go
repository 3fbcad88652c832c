package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// An answer's body is at most this many bytes.
const mostBytes = 1 << 20

// headers are those of a request; the flag may be given several times.
type headers http.Header

func (h headers) String() string { return "" }

// Set takes NAME:VALUE.
func (h headers) Set(text string) error {
	name, value, found := strings.Cut(text, ":")
	if !found || name == "" {
		return fmt.Errorf("%q is not NAME:VALUE", text)
	}
	http.Header(h).Add(name, value)
	return nil
}

// call asks a URL, once or more often, one request after the other and over one connection, and prints each answer, an empty line between
// two. What is no answer at all ends it with an error; what a server or a proxy answers, whatever it is, is an answer.
func call(arguments []string) error {
	if len(arguments) == 0 {
		return errors.New("which URL? client URL [--method=METHOD] [-H NAME:VALUE]… [--count=N]")
	}
	target, err := url.Parse(arguments[0])
	if err != nil {
		return err
	}
	given := headers{}
	flags := flag.NewFlagSet("client", flag.ContinueOnError)
	method := flags.String("method", http.MethodGet, "the method of HTTP")
	count := flags.Int("count", 1, "how many requests")
	patience := flags.Duration("timeout", 5*time.Second, "how long one may take")
	flags.Var(given, "H", "a header, NAME:VALUE")
	if err := flags.Parse(arguments[1:]); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is no flag", flags.Arg(0))
	}

	var ask func(context.Context, *Fields) (string, error)
	switch target.Scheme {
	case "http", "https":
		ask = askHTTP(*method, target, http.Header(given))
	case "grpc":
		var closer io.Closer
		if ask, closer, err = askGRPC(target.Host, http.Header(given)); err != nil {
			return err
		}
		defer closer.Close()
	default:
		return fmt.Errorf("%s: one of http, https, grpc", target.Scheme)
	}
	for number := range *count {
		if err := once(ask, target, number, *patience); err != nil {
			return fmt.Errorf("request %d of %d: %w", number+1, *count, err)
		}
	}
	return nil
}

// once asks once and prints: what the client saw, then what the server wrote.
func once(ask func(context.Context, *Fields) (string, error), target *url.URL, number int, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var seen Fields
	seen.Add("Url", target.String())
	begun := time.Now()
	body, err := ask(ctx, &seen)
	if err != nil {
		return err
	}
	seen.Add("Latency", time.Since(begun).String())
	var text strings.Builder
	for line := range strings.Lines(seen.String()) {
		fmt.Fprintf(&text, "[%d] %s", number, line)
	}
	for line := range strings.Lines(body) {
		fmt.Fprintf(&text, "[%d body] %s\n", number, strings.TrimRight(line, "\r\n"))
	}
	_, err = fmt.Println(text.String())
	return err
}

func askHTTP(method string, target *url.URL, given http.Header) func(context.Context, *Fields) (string, error) {
	client := http.Client{
		// A certificate proves nothing here that a test asks for.
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context, seen *Fields) (string, error) {
		request, err := http.NewRequestWithContext(ctx, method, target.String(), nil)
		if err != nil {
			return "", err
		}
		request.Header = given.Clone()
		if host := request.Header.Get("Host"); host != "" {
			request.Host = host
			request.Header.Del("Host")
		}
		response, err := client.Do(request)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(io.LimitReader(response.Body, mostBytes))
		if err != nil {
			return "", err
		}
		seen.Add("StatusCode", fmt.Sprint(response.StatusCode))
		seen.AddHeaders("ResponseHeader", response.Header)
		return string(body), nil
	}
}

func askGRPC(host string, given http.Header) (func(context.Context, *Fields) (string, error), io.Closer, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
	}
	// As the system resolves it, like any other name, and not as gRPC would by itself.
	connection, err := grpc.NewClient("passthrough:///"+host, options...)
	if err != nil {
		return nil, nil, err
	}
	sent := metadata.MD{}
	for name, values := range given {
		sent.Set(name, values...)
	}
	return func(ctx context.Context, _ *Fields) (string, error) {
		answer := new(wrapperspb.StringValue)
		ctx = metadata.NewOutgoingContext(ctx, sent)
		err := connection.Invoke(ctx, "/"+echoService+"/"+echoMethod, wrapperspb.String("request"), answer)
		return answer.GetValue(), err
	}, connection, nil
}
