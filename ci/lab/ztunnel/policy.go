package main

import (
	"net"
	"slices"
	"strings"

	"istio.io/istio/pkg/workloadapi"
	"istio.io/istio/pkg/workloadapi/security"
)

// request is what a policy of layer 4 decides about.
type request struct {
	identity string // the client's SPIFFE ID; empty for plaintext
	source   net.IP
	to       net.IP
	port     uint32
}

func (r request) principal() string { return strings.TrimPrefix(r.identity, "spiffe://") }

// of returns the segment of the SPIFFE ID after ns or sa.
func (r request) of(key string) string {
	parts := strings.Split(r.principal(), "/")
	if at := slices.Index(parts, key); at >= 0 && at+1 < len(parts) {
		return parts[at+1]
	}
	return ""
}

// allowed says whether the policies of a workload allow a request, and which policy decided.
func (s *state) allowed(workload *workloadapi.Workload, asked request) (bool, string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	matched, allowing := "", false
	for name, policy := range s.policies {
		if policy.DryRun || !applies(policy, name, workload) {
			continue
		}
		// a group without rules (`rules: [{}]`) matches everything
		matches := slices.ContainsFunc(policy.Groups, func(group *security.Group) bool {
			return !slices.ContainsFunc(group.Rules, func(rules *security.Rules) bool {
				return !slices.ContainsFunc(rules.Matches, asked.matches)
			})
		})
		switch {
		case policy.Action == security.Action_DENY && matches:
			return false, name
		case policy.Action == security.Action_ALLOW:
			allowing = true
			if matches {
				matched = name
			}
		}
	}
	return !allowing || matched != "", matched
}

func applies(policy *security.Authorization, name string, workload *workloadapi.Workload) bool {
	switch policy.Scope {
	case security.Scope_GLOBAL:
		return true
	case security.Scope_NAMESPACE:
		return policy.Namespace == workload.Namespace
	default:
		return slices.Contains(workload.AuthorizationPolicies, name)
	}
}

// matches says whether all conditions of a match are met; an empty list is no condition.
func (r request) matches(match *security.Match) bool {
	account := func(each *security.ServiceAccountMatch) bool {
		return r.identity != "" && each.Namespace == r.of("ns") && each.ServiceAccount == r.of("sa")
	}
	return every(
		some(match.Namespaces, texts(r.of("ns"))), none(match.NotNamespaces, texts(r.of("ns"))),
		some(match.Principals, texts(r.principal())), none(match.NotPrincipals, texts(r.principal())),
		some(match.ServiceAccounts, account), none(match.NotServiceAccounts, account),
		some(match.SourceIps, within(r.source)), none(match.NotSourceIps, within(r.source)),
		some(match.DestinationIps, within(r.to)), none(match.NotDestinationIps, within(r.to)),
		some(match.DestinationPorts, func(port uint32) bool { return port == r.port }),
		none(match.NotDestinationPorts, func(port uint32) bool { return port == r.port }),
	)
}

func every(conditions ...bool) bool { return !slices.Contains(conditions, false) }

func some[T any](each []T, is func(T) bool) bool {
	return len(each) == 0 || slices.ContainsFunc(each, is)
}

func none[T any](each []T, is func(T) bool) bool { return !slices.ContainsFunc(each, is) }

func texts(value string) func(*security.StringMatch) bool {
	return func(match *security.StringMatch) bool {
		if value == "" {
			return false
		}
		switch kind := match.MatchType.(type) {
		case *security.StringMatch_Exact:
			return value == kind.Exact
		case *security.StringMatch_Prefix:
			return strings.HasPrefix(value, kind.Prefix)
		case *security.StringMatch_Suffix:
			return strings.HasSuffix(value, kind.Suffix)
		}
		return true // presence
	}
}

func within(ip net.IP) func(*security.Address) bool {
	return func(each *security.Address) bool {
		network := net.IPNet{IP: each.Address, Mask: net.CIDRMask(int(each.Length), 8*len(each.Address))}
		return network.Contains(ip)
	}
}
