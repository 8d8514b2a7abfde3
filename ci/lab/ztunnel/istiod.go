package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/structpb"
	ca "istio.io/api/security/v1alpha1"
)

const (
	addressType = "type.googleapis.com/istio.workload.Address"
	policyType  = "type.googleapis.com/istio.security.Authorization"

	rootFile  = "/var/run/secrets/istio/root-cert.pem"
	tokenFile = "/var/run/secrets/tokens/istio-token"
)

// istiod is the connection to the control plane: configuration and certificates.
type istiod struct {
	connection *grpc.ClientConn
	roots      *x509.CertPool
}

type bearer struct{}

func (bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := os.ReadFile(tokenFile)
	return map[string]string{
		"authorization": "Bearer " + strings.TrimSpace(string(token)), "clusterid": clusterID,
	}, err
}

func (bearer) RequireTransportSecurity() bool { return true }

func newIstiod() *istiod {
	text, err := os.ReadFile(rootFile)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	connection, err := grpc.NewClient(istiodAddress,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots})),
		grpc.WithPerRPCCredentials(bearer{}))
	if err != nil {
		log.Fatal(err)
	}
	return &istiod{connection, roots}
}

// follow keeps the state equal to what istiod sends, until the stream ends.
func (i *istiod) follow(state *state) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(i.connection).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	for _, each := range []string{addressType, policyType} {
		err := stream.Send(&discovery.DeltaDiscoveryRequest{
			Node: node(), TypeUrl: each, ResourceNamesSubscribe: []string{"*"},
			InitialResourceVersions: state.known(each),
		})
		if err != nil {
			return err
		}
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		messages.Add(1)
		ack := &discovery.DeltaDiscoveryRequest{TypeUrl: answer.TypeUrl, ResponseNonce: answer.Nonce}
		if rejected != "" && strings.HasSuffix(answer.TypeUrl, "."+rejected) {
			ack.ErrorDetail = &rpc.Status{Code: 3, Message: "rejected by LAB_REJECT"}
		} else if err := state.take(answer); err != nil {
			ack.ErrorDetail = &rpc.Status{Code: 3, Message: err.Error()}
		}
		if err := stream.Send(ack); err != nil {
			return err
		}
	}
}

func node() *core.Node {
	name, namespace, ip := os.Getenv("POD_NAME"), os.Getenv("POD_NAMESPACE"), os.Getenv("INSTANCE_IP")
	fields := map[string]any{
		"NAME": name, "NAMESPACE": namespace, "INSTANCE_IPS": ip,
		"NODE_NAME": os.Getenv("NODE_NAME"), "CLUSTER_ID": clusterID,
	}
	if version != "" {
		fields["ISTIO_VERSION"] = version
	}
	meta, _ := structpb.NewStruct(fields)
	return &core.Node{
		Id:       fmt.Sprintf("ztunnel~%s~%s.%s~%s.svc.cluster.local", ip, name, namespace, namespace),
		Metadata: meta,
	}
}

// sign returns a certificate for a pod's identity. istiod signs it once it knows that this ztunnel is on the pod's node.
func (i *istiod) sign(identity string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	impersonated, _ := structpb.NewStruct(map[string]any{"ImpersonatedIdentity": identity})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answer, err := ca.NewIstioCertificateServiceClient(i.connection).CreateCertificate(ctx, &ca.IstioCertificateRequest{
		Csr:              string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})),
		ValidityDuration: 86400,
		Metadata:         impersonated,
	})
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	made, err := tls.X509KeyPair([]byte(strings.Join(answer.CertChain, "\n")),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	return &made, err
}
