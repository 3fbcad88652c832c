package conformance

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// The profiles of a mesh.
var profiles = []suite.ConformanceProfileName{suite.MeshHTTPConformanceProfileName, suite.MeshGRPCConformanceProfileName}

// What those profiles ask of every mesh.
var core = []features.FeatureName{features.SupportMesh, features.SupportHTTPRoute, features.SupportGRPCRoute}

// claimed is what Canopy does beyond the core, and says so in its report; docs/conformance.md has the same list. A feature comes in here
// when its tests pass, and leaves only with a reason in that page.
var claimed = []features.FeatureName{
	features.SupportMeshClusterIPMatching,
	features.SupportMeshConsumerRoute,
	features.SupportMeshHTTPRouteBackendRequestHeaderModification,
	features.SupportMeshHTTPRouteNamedRouteRule,
	features.SupportMeshHTTPRouteQueryParamMatching,
	features.SupportMeshHTTPRouteRedirectPath,
	features.SupportMeshHTTPRouteRedirectPort,
	features.SupportMeshHTTPRouteRewritePath,
	features.SupportMeshHTTPRouteSchemeRedirect,
	// Of routes in general, whichever their parent; some tests of meshes need them.
	features.SupportHTTPRoute303RedirectStatusCode,
	features.SupportHTTPRoute307RedirectStatusCode,
	features.SupportHTTPRoute308RedirectStatusCode,
	features.SupportHTTPRouteParentRefPort,
	features.SupportHTTPRouteResponseHeaderModification,
}

// featuresOf reads what is to be tested: `core`, `claimed` (the core, too), or the core and what is named, separated by commas.
func featuresOf(text string) ([]features.FeatureName, error) {
	switch text {
	case "core":
		return core, nil
	case "claimed":
		return slices.Concat(core, claimed), nil
	}
	known := features.SetsToNamesSet(features.AllFeatures)
	wanted := sets.New(core...)
	for name := range strings.SplitSeq(text, ",") {
		if !known.Has(features.FeatureName(name)) {
			return nil, fmt.Errorf("%q is no feature of this version of Gateway API: name some of it, or `core`, or `claimed`", name)
		}
		wanted.Insert(features.FeatureName(name))
	}
	return sets.List(wanted), nil
}

// level is what a test counts as: a mesh has to pass the core, and of the rest what it claims.
func level(test suite.ConformanceTest) string {
	for _, feature := range test.Features {
		if !slices.Contains(core, feature) {
			return "extended"
		}
	}
	return "core"
}
