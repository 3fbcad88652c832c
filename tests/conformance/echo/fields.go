package main

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
)

// Fields are the lines of an answer, NAME=VALUE each. The suite reads the first line of a name, and all of RequestHeader and ResponseHeader.
type Fields struct{ strings.Builder }

// Add writes one line; what would end it in the middle is left out.
func (f *Fields) Add(name, value string) {
	fmt.Fprintf(f, "%s=%s\n", name, strings.NewReplacer("\r", "", "\n", "").Replace(value))
}

// AddHeaders writes a line for every value, by name, as NAME:VALUE; what HTTP/2 calls pseudo-headers is told by other fields.
func (f *Fields) AddHeaders(field string, headers map[string][]string) {
	names := make([]string, 0, len(headers))
	for name := range headers {
		if !strings.HasPrefix(name, ":") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range headers[name] {
			f.Add(field, name+":"+value)
		}
	}
}

// AddPlace writes who answers, and whom: the pod's name is what the suite tells backends apart by.
func (f *Fields) AddPlace(local, remote net.Addr) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	f.Add("ServicePort", portOf(local))
	f.Add("IP", hostOf(remote))
	f.Add("Hostname", host)
}

func portOf(address net.Addr) string {
	if address == nil {
		return ""
	}
	_, port, _ := net.SplitHostPort(address.String())
	return port
}

func hostOf(address net.Addr) string {
	if address == nil {
		return ""
	}
	host, _, _ := net.SplitHostPort(address.String())
	return host
}
