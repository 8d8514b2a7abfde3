package main

import (
	"math/rand"
	"net"
	"strconv"
	"sync"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"istio.io/istio/pkg/workloadapi"
	"istio.io/istio/pkg/workloadapi/security"
)

// state is what istiod has sent, by the names of the resources.
type state struct {
	mu        sync.RWMutex
	versions  map[string]map[string]string // of each type
	workloads map[string]*workloadapi.Workload
	services  map[string]*workloadapi.Service // "namespace/hostname"
	policies  map[string]*security.Authorization
}

func newState() *state {
	return &state{
		versions:  map[string]map[string]string{addressType: {}, policyType: {}},
		workloads: map[string]*workloadapi.Workload{},
		services:  map[string]*workloadapi.Service{},
		policies:  map[string]*security.Authorization{},
	}
}

// known returns what a new stream need not send again.
func (s *state) known(kind string) map[string]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	copied := map[string]string{}
	for name, version := range s.versions[kind] {
		copied[name] = version
	}
	return copied
}

// take applies a response, or returns why it is malformed.
func (s *state) take(answer *discovery.DeltaDiscoveryResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range answer.RemovedResources {
		delete(s.versions[answer.TypeUrl], name)
		delete(s.workloads, name)
		delete(s.services, name)
		delete(s.policies, name)
	}
	for _, each := range answer.Resources {
		if err := s.put(answer.TypeUrl, each); err != nil {
			return err
		}
		s.versions[answer.TypeUrl][each.Name] = each.Version
	}
	return nil
}

func (s *state) put(kind string, resource *discovery.Resource) error {
	if kind == policyType {
		policy := &security.Authorization{}
		if err := proto.Unmarshal(resource.Resource.Value, policy); err != nil {
			return err
		}
		s.policies[resource.Name] = policy
		return nil
	}
	address := &workloadapi.Address{}
	if err := proto.Unmarshal(resource.Resource.Value, address); err != nil {
		return err
	}
	if workload := address.GetWorkload(); workload != nil {
		s.workloads[resource.Name] = workload
	}
	if service := address.GetService(); service != nil {
		s.services[resource.Name] = service
	}
	return nil
}

// workload returns the workload at an address, or nil.
func (s *state) workload(ip net.IP) *workloadapi.Workload {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, each := range s.workloads {
		if each.NetworkMode == workloadapi.NetworkMode_STANDARD && has(each, ip) {
			return each
		}
	}
	return nil
}

func has(workload *workloadapi.Workload, ip net.IP) bool {
	for _, address := range workload.Addresses {
		if net.IP(address).Equal(ip) {
			return true
		}
	}
	return false
}

// service returns the Service at a virtual address, or nil.
func (s *state) service(ip net.IP) *workloadapi.Service {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, each := range s.services {
		for _, address := range each.Addresses {
			if net.IP(address.Address).Equal(ip) {
				return each
			}
		}
	}
	return nil
}

// endpoint returns a healthy workload of a Service and its port behind the Service's, or nil.
func (s *state) endpoint(service *workloadapi.Service, port uint32) (*workloadapi.Workload, uint32) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	type found struct {
		workload *workloadapi.Workload
		port     uint32
	}
	var all []found
	for _, each := range s.workloads {
		ports := each.Services[service.Namespace+"/"+service.Hostname]
		if ports == nil || each.Status != workloadapi.WorkloadStatus_HEALTHY || len(each.Addresses) == 0 {
			continue
		}
		for _, mapped := range ports.Ports {
			if mapped.ServicePort == port {
				all = append(all, found{each, mapped.TargetPort})
			}
		}
	}
	if len(all) == 0 {
		return nil, 0
	}
	chosen := all[rand.Intn(len(all))]
	return chosen.workload, chosen.port
}

// waypoint returns a workload that serves HBONE for a gateway address, and its port.
func (s *state) waypoint(at *workloadapi.GatewayAddress) (*workloadapi.Workload, uint32) {
	port := at.HboneMtlsPort
	if port == 0 {
		port = hbonePort
	}
	if name := at.GetHostname(); name != nil {
		s.mu.RLock()
		service := s.services[name.Namespace+"/"+name.Hostname]
		s.mu.RUnlock()
		if service == nil {
			return nil, 0
		}
		return s.endpoint(service, port)
	}
	if service := s.service(at.GetAddress().GetAddress()); service != nil {
		return s.endpoint(service, port)
	}
	return s.workload(at.GetAddress().GetAddress()), port
}

func identity(workload *workloadapi.Workload) string {
	domain := workload.TrustDomain
	if domain == "" {
		domain = "cluster.local"
	}
	return "spiffe://" + domain + "/ns/" + workload.Namespace + "/sa/" + workload.ServiceAccount
}

func at(workload *workloadapi.Workload, port uint32) string {
	return net.JoinHostPort(net.IP(workload.Addresses[0]).String(), strconv.Itoa(int(port)))
}
