// echo is what the pods of Gateway API's conformance suite for meshes are made of: a server that answers with what it was asked and its
// own name, and, when called as `client`, a client that prints the answer.
//
// The image that the suite's manifests name is another make's, and what of it is relied on is this: the server's flags (mesh/manifests.yaml
// of the suite), the client's (utils/echo/pod.go), and the lines that both write (utils/echo/parse.go). It adds nothing that a proxy could
// trip over or be helped by: no retries, no redirects followed, one connection for all requests of a call. Nothing but tests may run it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	run := serve
	if filepath.Base(os.Args[0]) == "client" {
		run = call
	}
	if err := run(os.Args[1:]); errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	} else if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(1)
	}
}
