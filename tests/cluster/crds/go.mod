// The modules that publish the definitions of the Gateway API's and of Istio's objects. None of their code is built: scripts/cluster takes
// the manifests out of them. A module of its own, as both want newer libraries than the cluster's Kubernetes does.
module canopy.mesh/tests/cluster/crds

go 1.26

require (
	istio.io/api v1.30.8
	sigs.k8s.io/gateway-api v1.6.3
)
