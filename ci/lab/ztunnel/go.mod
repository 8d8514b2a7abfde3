// Built with the go.mod of an Istio release (../go/istio-*), whose API it uses.
module lab/ztunnel

go 1.26.0
