package grpcresolver

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// BalancerName is the name of [NewBalancer]'s policy in a service config.
const BalancerName = "conclave"

// failures in a row take an instance out for a while.
const (
	failures = 5
	rest     = 30 * time.Second
)

// NewBalancer returns a load-balancing policy that takes the less busy one of two
// instances that chance chose by weight, prefers those of the zone, if it is not
// empty and has any, and leaves out an instance for 30 s after five calls in a row
// did not reach it. gRPC wants policies to be registered before connections are
// made; a program does so in main:
//
//	balancer.Register(grpcresolver.NewBalancer("eu-1"))
func NewBalancer(zone string) balancer.Builder {
	return base.NewBalancerBuilder(BalancerName, pickers{zone}, base.Config{HealthCheck: true})
}

type pickers struct{ zone string }

// Build makes a picker of the connections that are ready.
func (p pickers) Build(info base.PickerBuildInfo) balancer.Picker {
	if len(info.ReadySCs) == 0 {
		return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	}
	all := make([]*backend, 0, len(info.ReadySCs))
	near := 0
	for sc, c := range info.ReadySCs {
		i, _ := InstanceOf(c.Address.BalancerAttributes) //nolint:staticcheck // package base hands on nothing else
		b := &backend{sc: sc, id: i.ID, weight: max(i.Weight, 1), near: p.zone != "" && i.Zone == p.zone}
		if b.near {
			near++
		}
		all = append(all, b)
	}
	if near > 0 {
		all = slices.DeleteFunc(all, func(b *backend) bool { return !b.near })
	}
	slices.SortFunc(all, func(a, b *backend) int { return cmp.Compare(a.id, b.id) })
	t := picker{all: all}
	for _, b := range all {
		t.total += b.weight
	}
	return &t
}

// A backend is one instance that is connected.
type backend struct {
	sc      balancer.SubConn
	id      string
	weight  int
	near    bool
	pending atomic.Int64
	failed  atomic.Int64 // in a row
	until   atomic.Int64 // left out, in Unix ns
}

type picker struct {
	all   []*backend
	total int
}

// Pick chooses a connection for a call.
func (p *picker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	b := p.choose(time.Now().UnixNano())
	b.pending.Add(1)
	return balancer.PickResult{SubConn: b.sc, Done: func(info balancer.DoneInfo) {
		b.pending.Add(-1)
		b.report(info)
	}}, nil
}

func (p *picker) choose(now int64) *backend {
	a, b := p.one(), p.one()
	for try := 0; try < len(p.all) && b == a; try++ { // equal ones are worth little
		b = p.one()
	}
	switch out := a.out(now); {
	case out && !b.out(now):
		return b
	case out:
		return p.sound(now, a)
	case !b.out(now) && b.load() < a.load():
		return b
	}
	return a
}

// sound returns any that is not left out, or else the one given.
func (p *picker) sound(now int64, otherwise *backend) *backend {
	from := rand.IntN(len(p.all))
	for k := range p.all {
		if b := p.all[(from+k)%len(p.all)]; !b.out(now) {
			return b
		}
	}
	return otherwise
}

// one is any, with the chance that its weight gives it.
func (p *picker) one() *backend {
	at := rand.IntN(p.total)
	for _, b := range p.all {
		if at -= b.weight; at < 0 {
			return b
		}
	}
	return p.all[0]
}

func (b *backend) out(now int64) bool { return b.until.Load() > now }

func (b *backend) load() float64 { return float64(b.pending.Load()+1) / float64(b.weight) }

// report takes in how a call ended. Only what says that the instance was not
// reached counts: other errors are answers.
func (b *backend) report(info balancer.DoneInfo) {
	if c := status.Code(info.Err); info.Err == nil || c != codes.Unavailable {
		b.failed.Store(0)
		return
	}
	if b.failed.Add(1) >= failures {
		b.failed.Store(0)
		b.until.Store(time.Now().Add(rest).UnixNano())
	}
}
