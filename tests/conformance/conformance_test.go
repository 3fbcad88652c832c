// Package conformance runs Gateway API's conformance suite for meshes against the cluster of KUBECONFIG, with Canopy's name on its report.
//
// It is a program made of one test, as the suite wants to be called; scripts/conformance builds and runs it, docs/conformance.md says what
// is claimed. What the suite does is the suite's: this chooses profiles and features, opts its namespaces in, and tells how it goes. It must
// not lengthen the suite's time-outs, nor leave out a test of what is claimed.
package conformance

import (
	"bufio"
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/gateway-api/conformance"
	confv1 "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/yaml"
)

var (
	wanted  = flag.String("features", "claimed", "what is tested: core, claimed, or the core and what is named, separated by commas")
	optIn   = flag.String("opt-in", "canopy.mesh/mode=node", "the label that takes a namespace into the mesh")
	release = flag.String("canopy-version", "", "the version of Canopy that is tested, for the report")
	report  = flag.String("report", "", "where the report is written; none without")
	images  = flag.Bool("images", false, "only print the images that the suite's pods want, one a line")
	apart   = flag.Bool("spread", false, "put echo-v2 on another node than echo-v1, so that calls cross nodes")
	bare    = flag.Bool("bare", false, "there is no mesh: right if what needs none passes, and nothing else")
)

// What passes without a mesh: one call, which no route changes.
const needsNoMesh = "MeshBasic"

// Without a mesh it is known at once that nothing changes.
const barePatience = 2 * time.Second

func TestMain(m *testing.M) {
	flag.Parse()
	if *images {
		if err := printImages(); err != nil {
			fmt.Fprintf(os.Stderr, "error: %v\n", err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if *bare {
		code = progress.Bare()
	}
	os.Exit(code)
}

var progress = NewProgress(os.Stderr)

func TestMesh(t *testing.T) {
	supported, err := featuresOf(*wanted)
	if err != nil {
		t.Fatal(err)
	}
	options := conformance.DefaultOptions(t)
	options.ConformanceProfiles = profiles
	options.SupportedFeatures = supported
	options.NamespaceLabels = suite.ParseKeyValuePairs(*optIn)
	options.Implementation = confv1.Implementation{
		Organization: "canopy",
		Project:      "canopy",
		URL:          "https://canopy.mesh",
		Version:      *release,
		Contact:      []string{"https://canopy.mesh"},
	}
	if err := options.Implementation.Validate(); err != nil && *report != "" {
		t.Fatalf("no report without -canopy-version: %v", err)
	}
	options.Hook = progress.Note
	if *bare {
		options.NamespaceLabels = nil
		options.TimeoutConfig.MaxTimeToConsistency = barePatience
	}

	run, err := suite.NewConformanceTestSuite(options)
	if err != nil {
		t.Fatal(err)
	}
	// Once all has been taken down again: what was registered first runs last.
	t.Cleanup(func() {
		progress.Table()
		if *report == "" {
			return
		}
		if err := writeReport(run, *report); err != nil {
			t.Errorf("the report: %v", err)
		}
	})
	progress.Say("making the suite's namespaces and pods")
	run.Setup(t, tests.ConformanceTests)
	if *apart {
		progress.Say("moving echo-v2 to another node")
		spread(t, run)
	}
	progress.Say("the pods are Ready; testing")
	if err := run.Run(t, tests.ConformanceTests); err != nil {
		t.Fatal(err)
	}
}

// writeReport writes the suite's report, its profiles in the same order every time.
func writeReport(run *suite.ConformanceTestSuite, path string) error {
	found, err := run.Report()
	if err != nil {
		return err
	}
	slices.SortFunc(found.ProfileReports, func(a, b confv1.ProfileReport) int { return cmp.Compare(a.Name, b.Name) })
	text, err := yaml.Marshal(found)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

// printImages prints what the manifests of a mesh's pods name.
func printImages() error {
	manifests, err := conformance.Manifests.Open("mesh/manifests.yaml")
	if err != nil {
		return err
	}
	defer manifests.Close()
	var names []string
	lines := bufio.NewScanner(manifests)
	for lines.Scan() {
		if _, image, found := strings.Cut(lines.Text(), " image: "); found && !slices.Contains(names, image) {
			names = append(names, image)
			fmt.Println(image)
		}
	}
	if len(names) == 0 {
		return fmt.Errorf("mesh/manifests.yaml of the suite names no image")
	}
	return lines.Err()
}
