package conformance

import (
	"flag"
	"os"
	"regexp"
	"slices"
	"testing"
)

var page = flag.String("page", "", "the page of docs that says what is claimed, if it is to be compared")

// Who reads what is claimed reads it in docs.
func TestClaimsAreDocumented(t *testing.T) {
	if *page == "" {
		t.Skip("without -page")
	}
	text, err := os.ReadFile(*page)
	if err != nil {
		t.Fatal(err)
	}
	var documented, listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Za-z0-9]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, row[1])
	}
	for _, feature := range claimed {
		listed = append(listed, string(feature))
	}
	slices.Sort(documented)
	slices.Sort(listed)
	if !slices.Equal(documented, listed) {
		t.Errorf("claimed are %v, and the page says %v", listed, documented)
	}
}
