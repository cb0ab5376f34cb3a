package service

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

// readBudget bounds one question to etcd on behalf of people: its client waits for
// a connection as long as it may. A leader's election takes about a second and a
// half.
const readBudget = 5 * time.Second

// errSilent is the answer to a call whose question etcd left unanswered.
var errSilent = recipe.Errorf(codes.Unavailable, recipe.ReasonNoQuorum, "etcd does not answer")

// Bounded asks etcd within a budget of 5 seconds, after which the error has the
// reason no_quorum.
func Bounded[T any](ctx context.Context, ask func(ctx context.Context) (T, error)) (T, error) {
	within, cancel := context.WithTimeout(ctx, readBudget)
	defer cancel()
	answer, err := ask(within)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		err = errSilent
	}
	return answer, err
}

// Get is a read that is bounded.
func Get(ctx context.Context, c *clientv3.Client, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	return Bounded(ctx, func(ctx context.Context) (*clientv3.GetResponse, error) { return c.Get(ctx, key, opts...) })
}

const readPage = 2000 // keys of one read

// Load reads a range into names, at one revision, which it returns: 0 stands for
// now.
func (s *Service) Load(ctx context.Context, names *state.Names, r state.Range, rev int64) (int64, error) {
	for {
		resp, err := Get(ctx, s.Env.Client, r.From, clientv3.WithRange(r.End), clientv3.WithLimit(readPage), clientv3.WithRev(rev))
		if err != nil {
			return 0, err
		}
		if rev == 0 {
			rev = resp.Header.Revision
		}
		for _, kv := range resp.Kvs {
			names.Put(kv)
		}
		if !resp.More {
			return rev, nil
		}
		r.From = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// abreast is how many leases are asked about at the same time.
const abreast = 16

// TTLs returns how long leases live without a renewal. A lease of which etcd
// says nothing is left out: it is a view for people.
func (s *Service) TTLs(ctx context.Context, leases map[int64]bool) map[int64]*durationpb.Duration {
	ctx, cancel := context.WithTimeout(ctx, readBudget)
	defer cancel()
	ask := make(chan int64, len(leases))
	for lease := range leases {
		ask <- lease
	}
	close(ask)
	ttls := make(map[int64]*durationpb.Duration, len(leases))
	var mu sync.Mutex
	var all sync.WaitGroup
	for range min(abreast, len(leases)) {
		all.Go(func() {
			for lease := range ask {
				resp, err := s.Env.Client.TimeToLive(ctx, clientv3.LeaseID(lease))
				if err != nil || resp.TTL <= 0 {
					continue
				}
				mu.Lock()
				ttls[lease] = durationpb.New(time.Duration(resp.TTL) * time.Second)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return ttls
}
