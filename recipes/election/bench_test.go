package election_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"google.golang.org/grpc/metadata"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/scope"
	"github.com/conclavehq/conclave/recipes/internal/servicetest"
)

// The benchmarks compare with etcd's own election service, v3election: the same
// member, with fsync, over gRPC on loopback, in turn within one run. They report
// medians and their ratio. Run them alone:
//
//	go test -run '^$' -bench . ./recipes/election
const (
	benchRounds = 30
	benchTTL    = 600 // seconds; nobody renews
)

// A service is an election service, seen by candidate k of a name.
type service struct {
	name     string
	campaign func(ctx context.Context, k int, name string) (resign func() error, err error)
	observe  func(ctx context.Context, name string) (next func() error, err error)
}

func leaseFor(b *testing.B, c *clientv3.Client) clientv3.LeaseID {
	resp, err := c.Grant(b.Context(), benchTTL)
	if err != nil {
		b.Fatal(err)
	}
	return resp.ID
}

func stock(b *testing.B, e *coretest.Etcd, candidates int) service {
	c := v3electionpb.NewElectionClient(servicetest.Dial(b, e.Endpoint()[len("http://"):]))
	var leases []clientv3.LeaseID
	for range candidates {
		leases = append(leases, leaseFor(b, e.Client(b)))
	}
	return service{
		name: "stock",
		campaign: func(ctx context.Context, k int, name string) (func() error, error) {
			resp, err := c.Campaign(ctx, &v3electionpb.CampaignRequest{Name: []byte("stock/" + name), Lease: int64(leases[k])})
			return func() error {
				_, err := c.Resign(ctx, &v3electionpb.ResignRequest{Leader: resp.GetLeader()})
				return err
			}, err
		},
		observe: func(ctx context.Context, name string) (func() error, error) {
			stream, err := c.Observe(ctx, &v3electionpb.LeaderRequest{Name: []byte("stock/" + name)})
			return func() error { _, err := stream.Recv(); return err }, err
		},
	}
}

func ours(b *testing.B, e *coretest.Etcd, candidates int) service {
	direct := e.Member().Direct()
	h := startHostOn(b, scope.Backend{KV: direct.KV, Lease: direct.Lease, Watch: direct.Watch}, nil)
	var callers []recipe.Caller
	for k := range candidates {
		callers = append(callers, recipe.Caller{Session: fmt.Sprint(k), Lease: leaseFor(b, e.Client(b)), TTL: benchTTL * time.Second,
			Owner: fmt.Sprint("caller-", k), Namespace: "default"})
	}
	return service{
		name: "ours",
		campaign: func(ctx context.Context, k int, name string) (func() error, error) {
			ctx = metadata.NewOutgoingContext(ctx, callers[k].Metadata())
			resp, err := h.Campaign(ctx, &electionv1.CampaignRequest{SessionId: callers[k].Session, Name: name})
			return func() error {
				_, err := h.Resign(ctx, &electionv1.ResignRequest{SessionId: callers[k].Session, Name: name, Token: resp.GetToken()})
				return err
			}, err
		},
		observe: func(ctx context.Context, name string) (func() error, error) {
			stream, err := h.Observe(ctx, &electionv1.ObserveRequest{Name: name})
			return func() error { // the next leader
				for {
					if resp, err := stream.Recv(); err != nil || !resp.GetVacant() {
						return err
					}
				}
			}, err
		},
	}
}

// versus runs a round of each service in turn, and reports the medians.
func versus(b *testing.B, candidates int, round func(s service, name string) time.Duration) {
	e := coretest.StartEtcd(b, coretest.WithFsync())
	inTurn(b, []service{ours(b, e, candidates), stock(b, e, candidates)}, round)
}

func inTurn(b *testing.B, services []service, round func(s service, name string) time.Duration) {
	took := make([][]time.Duration, len(services))
	for b.Loop() {
		for range benchRounds {
			for k, s := range services {
				took[k] = append(took[k], round(s, "bench"))
			}
		}
	}
	median := func(d []time.Duration) float64 {
		return float64(slices.Sorted(slices.Values(d))[len(d)/2].Microseconds())
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(took[0]), "µs/ours")
	if len(took) > 1 {
		b.ReportMetric(median(took[1]), "µs/stock")
		b.ReportMetric(median(took[1])/median(took[0]), "x")
	}
}

// BenchmarkCampaign is a campaign in a free election, and a resignation.
func BenchmarkCampaign(b *testing.B) {
	versus(b, 1, func(s service, name string) time.Duration {
		began := time.Now()
		resign, err := s.campaign(b.Context(), 0, name)
		if err == nil {
			err = resign()
		}
		if err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	})
}

// BenchmarkHandover is the time from a resignation to the answer of the candidate
// that has stood for so long.
func BenchmarkHandover(b *testing.B) {
	for what, stood := range map[string]time.Duration{"just arrived": 5 * time.Millisecond, "settled": 400 * time.Millisecond} {
		b.Run(what, func(b *testing.B) {
			versus(b, 2, func(s service, name string) time.Duration {
				first, err := s.campaign(b.Context(), 0, name)
				if err != nil {
					b.Fatal(err)
				}
				won := make(chan time.Time, 1)
				go func() {
					second, err := s.campaign(b.Context(), 1, name)
					won <- time.Now()
					if err == nil {
						err = second()
					}
					if err != nil {
						b.Error(err)
					}
					close(won)
				}()
				<-time.After(stood)
				began := time.Now()
				if err := first(); err != nil {
					b.Fatal(err)
				}
				took := (<-won).Sub(began)
				<-won
				return took
			})
		})
	}
}

// BenchmarkObservers is the time from the beginning of a campaign until so many
// observers were told who leads. Of a hundred observers at etcd's own service some
// are not told for minutes, so it has one.
func BenchmarkObservers(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			crowds := make(map[string]*crowd)
			e := coretest.StartEtcd(b, coretest.WithFsync())
			services := []service{ours(b, e, 1)}
			if n == 1 {
				services = append(services, stock(b, e, 1))
			}
			inTurn(b, services, func(s service, name string) time.Duration {
				if crowds[s.name] == nil {
					crowds[s.name] = gather(b, s, name, n)
				}
				return crowds[s.name].round(b, s, name)
			})
		})
	}
}

// A crowd is observers of one election.
type crowd struct {
	size int
	told sync.WaitGroup // each of them of one leader
}

// gather starts observers while somebody leads: who was told follows.
func gather(b *testing.B, s service, name string, n int) *crowd {
	c := &crowd{size: n}
	ctx, cancel := context.WithCancel(b.Context())
	var all sync.WaitGroup
	b.Cleanup(func() {
		cancel()
		all.Wait()
	})
	c.told.Add(n)
	for range n {
		next, err := s.observe(ctx, name)
		if err != nil {
			b.Fatal(err)
		}
		all.Go(func() {
			for next() == nil {
				c.told.Done()
			}
		})
	}
	c.lead(b, s, name)
	return c
}

func (c *crowd) lead(b *testing.B, s service, name string) time.Duration {
	began := time.Now()
	resign, err := s.campaign(b.Context(), 0, name)
	if err != nil {
		b.Fatal(err)
	}
	c.told.Wait()
	took := time.Since(began)
	if err := resign(); err != nil {
		b.Fatal(err)
	}
	return took
}

func (c *crowd) round(b *testing.B, s service, name string) time.Duration {
	c.told.Add(c.size)
	return c.lead(b, s, name)
}
