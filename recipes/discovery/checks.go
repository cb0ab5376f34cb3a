package discovery

import (
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	discoveryv1 "github.com/conclavehq/conclave/api/conclave/discovery/v1"
	"github.com/conclavehq/conclave/discovery"
)

func hostChecks(all []*discoveryv1.Check) []discovery.HostCheck {
	var out []discovery.HostCheck
	for _, c := range all {
		out = append(out, discovery.HostCheck{URL: c.GetUrl(), Interval: c.GetInterval().AsDuration(), Timeout: c.GetTimeout().AsDuration(),
			Rise: int(c.GetRise()), Fall: int(c.GetFall())})
	}
	return out
}

func checkMessages(all []discovery.HostCheck) []*discoveryv1.Check {
	var out []*discoveryv1.Check
	for _, c := range all {
		out = append(out, &discoveryv1.Check{Url: c.URL, Interval: durationpb.New(c.Interval), Timeout: durationpb.New(c.Timeout),
			Rise: int32(c.Rise), Fall: int32(c.Fall)}) //nolint:gosec // at most 100
	}
	return out
}

func healthMessage(h *discovery.Health) *discoveryv1.Health {
	if h == nil {
		return nil
	}
	m := &discoveryv1.Health{Why: h.Why, By: h.By}
	for _, s := range h.States {
		m.States = append(m.States, string(s))
	}
	if !h.At.IsZero() {
		m.At = timestamppb.New(h.At)
	}
	return m
}
