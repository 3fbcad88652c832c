package conformance

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// Progress tells of each test when it has ended, and of all at the end. The tests' own words are in what the program prints.
type Progress struct {
	out     io.Writer
	since   time.Time
	results []result
}

type result struct {
	name, level, outcome string
	took                 time.Duration
}

// NewProgress tells it to out.
func NewProgress(out io.Writer) *Progress {
	return &Progress{out: out, since: time.Now()}
}

// Say tells what is done now; what comes next is timed from here.
func (p *Progress) Say(text string) {
	fmt.Fprintf(p.out, "    %s\n", text)
	p.since = time.Now()
}

// Note is the suite's hook: called when a test has ended. Tests of gateways are not ours to tell of.
func (p *Progress) Note(t *testing.T, test suite.ConformanceTest, run *suite.ConformanceTestSuite) {
	took := time.Since(p.since)
	p.since = time.Now()
	if !slices.Contains(test.Features, features.SupportMesh) {
		return
	}
	outcome := "pass"
	switch {
	case t.Failed():
		outcome = "FAIL"
	case t.Skipped() && run.SupportedFeatures.HasAll(test.Features...):
		outcome = "left out"
	case t.Skipped():
		outcome = "not claimed"
	}
	p.results = append(p.results, result{test.ShortName, level(test), outcome, took})
	if !t.Skipped() {
		fmt.Fprintf(p.out, "    %s  %s (%.1f s)\n", outcome, test.ShortName, took.Seconds())
	}
}

// Bare is the program's exit code where there is no mesh: 0 if the pods answer, and no test passes that a mesh has to do something for. Such
// a test would show nothing with a mesh either.
func (p *Progress) Bare() int {
	passed := slices.DeleteFunc(slices.Clone(p.results), func(r result) bool { return r.outcome != "pass" })
	if len(passed) == 1 && passed[0].name == needsNoMesh {
		fmt.Fprintf(p.out, "as it should be: without a mesh, %s passes alone\n", needsNoMesh)
		return 0
	}
	fmt.Fprintf(p.out, "error: without a mesh, %s alone should pass\n", needsNoMesh)
	return 1
}

// Table tells of all tests, by level, and how many have which outcome.
func (p *Progress) Table() {
	if len(p.results) == 0 {
		return
	}
	slices.SortStableFunc(p.results, func(a, b result) int { return strings.Compare(a.level+a.name, b.level+b.name) })
	table := tabwriter.NewWriter(p.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "\nTEST\tLEVEL\tRESULT\tSECONDS")
	counts := map[string]int{}
	for _, result := range p.results {
		fmt.Fprintf(table, "%s\t%s\t%s\t%.1f\n", result.name, result.level, result.outcome, result.took.Seconds())
		counts[result.outcome]++
	}
	table.Flush()
	fmt.Fprintf(p.out, "\n%d passed, %d failed, %d left out, %d not claimed\n",
		counts["pass"], counts["FAIL"], counts["left out"], counts["not claimed"])
}
