// ztunnel simulates Istio's ztunnel in the lab: it receives pods from the CNI agent (ZDS), workloads and policies from
// istiod (delta ADS as node type ztunnel) and a certificate for each pod's ServiceAccount, and in each pod's network it
// serves HBONE on 15008, redirected plaintext on 15006, and what the pod sends on 15001.
//
// ../README.md says what it was calibrated against and what it does not do.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// Istio's ports in a pod's network.
const (
	outboundPort  = 15001
	plaintextPort = 15006
	hbonePort     = 15008
)

var (
	istiodAddress = env("XDS_ADDRESS", "istiod.istio-system.svc:15012")
	clusterID     = env("ISTIO_META_CLUSTER_ID", "Kubernetes")
	version       = os.Getenv("ISTIO_META_ISTIO_VERSION")
	// a type, Address or Authorization, that is always rejected: a fault of a test
	rejected = os.Getenv("LAB_REJECT")

	proxies  atomic.Int64 // pods that are served
	messages atomic.Int64 // responses of istiod
	ready    atomic.Bool  // whether the CNI agent has sent all of its pods
)

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func main() {
	istiod := newIstiod()
	state := newState()
	go repeat("xds", func() error { return istiod.follow(state) })
	go serveMetrics()
	go serveReadiness()
	repeat("zds", func() error {
		defer ready.Store(false)
		return servePods(istiod, state)
	})
}

func repeat(name string, do func() error) {
	for {
		log.Printf("%s: %v", name, do())
		time.Sleep(time.Second)
	}
}

func serveMetrics() {
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "istio_build{component=\"ztunnel\",tag=%q} 1\n", version)
		fmt.Fprintf(w, "istio_xds_message_total %d\n", messages.Load())
		fmt.Fprintf(w, "workload_manager_active_proxy_count %d\n", proxies.Load())
		fmt.Fprintln(w, "workload_manager_pending_proxy_count 0")
	})
	log.Fatal(http.ListenAndServe(":15020", mux))
}

func serveReadiness() {
	log.Fatal(http.ListenAndServe(":15021", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})))
}
