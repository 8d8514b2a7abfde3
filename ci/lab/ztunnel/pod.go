package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// pod is one pod whose traffic passes here.
type pod struct {
	name     string // namespace/name
	identity string
	netns    int
	istiod   *istiod
	state    *state
	gone     chan struct{}
	closers  []io.Closer

	certificate atomic.Pointer[tls.Certificate]
}

func (p *pod) begin() error {
	go p.certify()
	for port, serve := range map[int]func(net.Listener){
		hbonePort:     p.serveHBONE,
		plaintextPort: func(l net.Listener) { p.accept(l, p.inbound) },
		outboundPort:  func(l net.Listener) { p.accept(l, p.outbound) },
	} {
		listener, err := listenInside(p.netns, port)
		if err != nil {
			p.end()
			return err
		}
		p.closers = append(p.closers, listener)
		go serve(listener)
	}
	return nil
}

func (p *pod) end() {
	close(p.gone)
	for _, each := range p.closers {
		_ = each.Close()
	}
	_ = unix.Close(p.netns)
}

func (p *pod) certify() {
	for {
		made, err := p.istiod.sign(p.identity)
		if err == nil {
			p.certificate.Store(made)
			return
		}
		log.Printf("certificate of %s: %v", p.name, err)
		select {
		case <-p.gone:
			return
		case <-time.After(time.Second):
		}
	}
}

func (p *pod) shown() (*tls.Certificate, error) {
	if made := p.certificate.Load(); made != nil {
		return made, nil
	}
	return nil, fmt.Errorf("no certificate for %s yet", p.identity)
}

// accept handles each redirected connection with the address that it was made to.
func (p *pod) accept(listener net.Listener, handle func(near *net.TCPConn, to *net.TCPAddr)) {
	for {
		accepted, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			near := accepted.(*net.TCPConn)
			defer near.Close()
			if to, err := original(near); err == nil {
				handle(near, to)
			}
		}()
	}
}

// inbound handles plaintext to the pod.
func (p *pod) inbound(near *net.TCPConn, to *net.TCPAddr) {
	if !p.allows(request{source: near.RemoteAddr().(*net.TCPAddr).IP, to: to.IP, port: uint32(to.Port)}) {
		reset(near)
		return
	}
	p.pass(near, to.String())
}

// allows says whether the pod's policies allow a request; a pod that istiod has not sent is not reached.
func (p *pod) allows(asked request) bool {
	workload := p.state.workload(asked.to)
	if workload == nil {
		log.Printf("%s: unknown workload %s", p.name, asked.to)
		return false
	}
	allowed, policy := p.state.allowed(workload, asked)
	if !allowed {
		log.Printf("%s: denied %q to port %d (%s)", p.name, asked.identity, asked.port, policy)
	}
	return allowed
}

// pass forwards a connection in plaintext.
func (p *pod) pass(near *net.TCPConn, to string) {
	far, err := dialInside(p.netns, to)
	if err != nil {
		reset(near)
		return
	}
	defer far.Close()
	go func() { _, _ = io.Copy(far, near); _ = far.CloseWrite() }()
	_, _ = io.Copy(near, far)
}

func (p *pod) serveHBONE(listener net.Listener) {
	server := &http.Server{
		Handler: http.HandlerFunc(p.connect),
		TLSConfig: &tls.Config{
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.shown() },
			ClientAuth:     tls.RequireAndVerifyClientCert,
			ClientCAs:      p.istiod.roots, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12,
		},
	}
	_ = server.ServeTLS(listener, "", "")
}

// connect handles HBONE: a CONNECT to a port of this pod, with the statuses of the real one.
func (p *pod) connect(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	host, text, _ := net.SplitHostPort(r.Host)
	port, _ := strconv.Atoi(text)
	local, _, _ := net.SplitHostPort(r.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
	if host != local {
		log.Printf("%s: ip mismatch: %s != %s", p.name, local, host)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	source, _, _ := net.SplitHostPort(r.RemoteAddr)
	asked := request{source: net.ParseIP(source), to: net.ParseIP(host), port: uint32(port)}
	if uris := r.TLS.PeerCertificates[0].URIs; len(uris) > 0 {
		asked.identity = uris[0].String()
	}
	if !p.allows(asked) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	far, err := dialInside(p.netns, r.Host)
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer far.Close()
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	go func() { _, _ = io.Copy(far, r.Body); _ = far.CloseWrite() }()
	_, _ = io.Copy(flushing{w}, far)
}

type flushing struct{ w http.ResponseWriter }

func (f flushing) Write(data []byte) (int, error) {
	n, err := f.w.Write(data)
	_ = http.NewResponseController(f.w).Flush()
	return n, err
}
