package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"

	"golang.org/x/net/http2"

	"istio.io/istio/pkg/workloadapi"
)

// tunnel is the way to a destination: HBONE to a peer, or plaintext.
type tunnel struct {
	peer      string // the address of the HBONE server; empty for plaintext
	identity  string // of the HBONE server
	authority string // where the peer connects to, or we do
}

// outbound handles what the pod sends.
func (p *pod) outbound(near *net.TCPConn, to *net.TCPAddr) {
	way, err := p.route(to)
	if err == nil && way.peer != "" {
		err = p.send(near, way)
	} else if err == nil {
		p.pass(near, way.authority)
	}
	if err != nil {
		log.Printf("%s: to %s: %v", p.name, to, err)
		reset(near)
	}
}

func (p *pod) route(to *net.TCPAddr) (tunnel, error) {
	if service := p.state.service(to.IP); service != nil {
		if service.Waypoint != nil {
			return p.through(service.Waypoint, to.String())
		}
		workload, port := p.state.endpoint(service, uint32(to.Port))
		if workload == nil {
			return tunnel{}, fmt.Errorf("no healthy endpoint of %s", service.Hostname)
		}
		return direct(workload, port), nil
	}
	workload := p.state.workload(to.IP)
	switch {
	case workload == nil:
		return tunnel{authority: to.String()}, nil
	case workload.Waypoint != nil:
		return p.through(workload.Waypoint, to.String())
	}
	return direct(workload, uint32(to.Port)), nil
}

func direct(workload *workloadapi.Workload, port uint32) tunnel {
	if workload.TunnelProtocol != workloadapi.TunnelProtocol_HBONE {
		return tunnel{authority: at(workload, port)}
	}
	return tunnel{at(workload, hbonePort), identity(workload), at(workload, port)}
}

func (p *pod) through(waypoint *workloadapi.GatewayAddress, authority string) (tunnel, error) {
	workload, port := p.state.waypoint(waypoint)
	if workload == nil {
		return tunnel{}, fmt.Errorf("no waypoint at %v", waypoint)
	}
	return tunnel{at(workload, port), identity(workload), authority}, nil
}

// send passes a connection through a CONNECT on a new connection, as the pod.
func (p *pod) send(near *net.TCPConn, way tunnel) error {
	certificate, err := p.shown()
	if err != nil {
		return err
	}
	raw, err := dialInside(p.netns, way.peer)
	if err != nil {
		return err
	}
	connection := tls.Client(raw, &tls.Config{
		Certificates: []tls.Certificate{*certificate}, NextProtos: []string{"h2"},
		InsecureSkipVerify: true, // a SPIFFE ID is not a host name: verify is the check
		VerifyConnection:   func(seen tls.ConnectionState) error { return p.verify(seen, way.identity) },
	})
	defer connection.Close()
	client, err := (&http2.Transport{}).NewClientConn(connection)
	if err != nil {
		return err
	}
	body, writer := io.Pipe()
	answer, err := client.RoundTrip(&http.Request{
		Method: http.MethodConnect, URL: &url.URL{Scheme: "https", Host: way.authority}, Host: way.authority, Body: body,
	})
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers CONNECT %s with %d", way.peer, way.authority, answer.StatusCode)
	}
	go func() { _, _ = io.Copy(writer, near); _ = writer.Close() }()
	if _, err = io.Copy(near, answer.Body); err != nil {
		return err
	}
	return near.CloseWrite()
}

func (p *pod) verify(seen tls.ConnectionState, identity string) error {
	between := x509.NewCertPool()
	for _, each := range seen.PeerCertificates[1:] {
		between.AddCert(each)
	}
	leaf := seen.PeerCertificates[0]
	options := x509.VerifyOptions{Roots: p.istiod.roots, Intermediates: between}
	if _, err := leaf.Verify(options); err != nil {
		return err
	}
	if len(leaf.URIs) == 0 || leaf.URIs[0].String() != identity {
		return fmt.Errorf("the peer is %v, not %s", leaf.URIs, identity)
	}
	return nil
}
