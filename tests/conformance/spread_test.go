package conformance

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

// echo-v2 goes to another node than echo-v1, whose pod asks all requests but those of MeshConsumerRoute.
const elsewhere = `{"spec": {"template": {"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
	{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "echo", "version": "v1"}}}]}}}}}}`

// spread sees to it that calls cross nodes. The suite's manifests leave it to the scheduler where pods run, which may put all on one node,
// and what is between nodes would not be tested.
func spread(t *testing.T, run *suite.ConformanceTestSuite) {
	deployments := run.Clientset.AppsV1().Deployments(suite.MeshNamespace)
	patch := []byte(elsewhere)
	wanted, err := deployments.Patch(t.Context(), "echo-v2", types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(run.TimeoutConfig.NamespacesMustBeReady); ; time.Sleep(time.Second) {
		now, err := deployments.Get(t.Context(), "echo-v2", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		status := now.Status
		if status.ObservedGeneration >= wanted.Generation && status.Replicas == 1 && status.UpdatedReplicas == 1 && status.AvailableReplicas == 1 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("echo-v2 does not come up on another node than echo-v1: %+v", status)
		}
	}
}
