package scope_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/internal/scope"
)

func grantWithID(ctx context.Context, c *clientv3.Client, id int64) error {
	_, err := pb.NewLeaseClient(c.ActiveConnection()).LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 60, ID: id})
	return err
}

// others grants a lease that is somebody else's, with a key on it.
func others(t *testing.T) clientv3.LeaseID {
	t.Helper()
	c := etcd.Client(t)
	lease := must[*clientv3.LeaseGrantResponse](t)(c.Grant(within(t), 600)).ID
	must[*clientv3.PutResponse](t)(c.Put(within(t), "elsewhere-leased", "mine", clientv3.WithLease(lease)))
	return lease
}

func TestForeignLeases(t *testing.T) {
	for _, k := range carriers(t, "hostile") {
		t.Run(k.name, func(t *testing.T) {
			ctx, c, lease := within(t), k.c, others(t)
			for how, attack := range map[string]func() error{
				"revoke":          func() error { _, err := c.Revoke(ctx, lease); return err },
				"keep alive once": func() error { _, err := c.KeepAliveOnce(ctx, lease); return err },
				"keys":            func() error { _, err := c.TimeToLive(ctx, lease, clientv3.WithAttachedKeys()); return err },
			} {
				if err := attack(); !errors.Is(err, rpctypes.ErrPermissionDenied) {
					t.Errorf("%s: %v", how, err)
				}
			}
			for _, l := range must[*clientv3.LeaseLeasesResponse](t)(c.Leases(ctx)).Leases {
				t.Errorf("listed: %x", l.ID)
			}
			left := must[*clientv3.LeaseTimeToLiveResponse](t)(etcd.Client(t).TimeToLive(ctx, lease, clientv3.WithAttachedKeys()))
			if left.TTL <= 0 || len(left.Keys) != 1 {
				t.Errorf("the lease has %d s and %d keys left", left.TTL, len(left.Keys))
			}
			// What a recipe does with its callers' leases.
			key := "/conclave/default/hostile/a/" + k.name
			must[*clientv3.PutResponse](t)(c.Put(ctx, key, "v", clientv3.WithLease(lease)))
			if got := must[*clientv3.LeaseTimeToLiveResponse](t)(c.TimeToLive(ctx, lease)); got.TTL <= 0 || got.GrantedTTL != 600 || len(got.Keys) != 0 {
				t.Errorf("time to live: %+v", got)
			}
			must[*clientv3.LeaseRevokeResponse](t)(etcd.Client(t).Revoke(ctx, lease))
			if n := must[*clientv3.GetResponse](t)(c.Get(ctx, key)).Count; n != 0 {
				t.Error("the key outlives its lease")
			}
		})
	}
}

func TestOwnLeases(t *testing.T) {
	for _, k := range carriers(t, "hostile") {
		t.Run(k.name, func(t *testing.T) {
			ctx, c := within(t), k.c
			lease := must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 60)).ID
			key := "/conclave/default/hostile/own/" + k.name
			must[*clientv3.PutResponse](t)(c.Put(ctx, key, "v", clientv3.WithLease(lease)))
			if got := must[*clientv3.LeaseKeepAliveResponse](t)(c.KeepAliveOnce(ctx, lease)); got.TTL != 60 || got.ID != lease {
				t.Errorf("renewal: %+v", got)
			}
			if got := must[*clientv3.LeaseTimeToLiveResponse](t)(c.TimeToLive(ctx, lease, clientv3.WithAttachedKeys())); len(got.Keys) != 1 {
				t.Errorf("keys: %q", got.Keys)
			}
			if got := must[*clientv3.LeaseLeasesResponse](t)(c.Leases(ctx)).Leases; len(got) != 1 || got[0].ID != lease {
				t.Errorf("listed: %v", got)
			}
			must[*clientv3.LeaseRevokeResponse](t)(c.Revoke(ctx, lease))
			if n := must[*clientv3.GetResponse](t)(c.Get(ctx, key)).Count; n != 0 {
				t.Error("the key outlives its lease")
			}
			if n := k.space.Refusals(); len(n) != 0 {
				t.Errorf("refused: %v", n)
			}
		})
	}
}

// Libraries know by etcd's answers that their lease has ended, however often they
// ask, and whether it ever was.
func TestEndedLeases(t *testing.T) {
	for _, k := range carriers(t, "hostile") {
		t.Run(k.name, func(t *testing.T) {
			ctx, c := within(t), k.c
			lease := must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 60)).ID
			must[*clientv3.LeaseRevokeResponse](t)(etcd.Client(t).Revoke(ctx, lease))
			for _, id := range []clientv3.LeaseID{lease, lease, 0, 4711} {
				if _, err := c.KeepAliveOnce(ctx, id); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
					t.Errorf("keep alive %x: %v", id, err)
				}
				if _, err := c.Revoke(ctx, id); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
					t.Errorf("revoke %x: %v", id, err)
				}
				if got, err := c.TimeToLive(ctx, id, clientv3.WithAttachedKeys()); err != nil || got.TTL != -1 || got.ID != id {
					t.Errorf("time to live of %x: %+v, %v", id, got, err)
				}
				if _, err := c.Put(ctx, "/conclave/default/hostile/a", "v", clientv3.WithLease(id)); id != 0 && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
					t.Errorf("put on %x: %v", id, err)
				}
			}
			if n := k.space.Refusals(); len(n) != 0 {
				t.Errorf("refused: %v", n)
			}
		})
	}
}

// renewalSpy notes which leases etcd is asked to renew.
type renewalSpy struct {
	pb.LeaseClient
	mu  sync.Mutex
	ids []int64
}

func (s *renewalSpy) LeaseKeepAlive(ctx context.Context, opts ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	stream, err := s.LeaseClient.LeaseKeepAlive(ctx, opts...)
	return &renewalSpyStream{stream, s}, err
}

type renewalSpyStream struct {
	pb.Lease_LeaseKeepAliveClient
	s *renewalSpy
}

func (s *renewalSpyStream) Send(r *pb.LeaseKeepAliveRequest) error {
	s.s.mu.Lock()
	s.s.ids = append(s.s.ids, r.ID)
	s.s.mu.Unlock()
	return s.Lease_LeaseKeepAliveClient.Send(r)
}

// One stream renews all leases of a client; a foreign one among them must not
// end the renewals of the others.
func TestRenewalsGoOnBesideARefusedOne(t *testing.T) {
	for name, back := range map[string]scope.Backend{
		"direct": scope.Backend(etcd.Member().Direct()), "connection": scope.FromClient(etcd.Client(t)),
	} {
		t.Run(name, func(t *testing.T) {
			spy := &renewalSpy{LeaseClient: back.Lease}
			back.Lease = spy
			ctx, s, foreign := within(t), newSpace(t, back, "hostile"), others(t)
			stream := must[pb.Lease_LeaseKeepAliveClient](t)(pb.NewLeaseClient(dial(t, serve(t, s)).ActiveConnection()).LeaseKeepAlive(ctx))
			c := s.Client()
			one := must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 60)).ID
			two := must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 60)).ID
			asked := []int64{4711, int64(one), int64(foreign), 0, int64(two), int64(foreign), int64(one)}
			for _, id := range asked {
				if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
					t.Fatal(err)
				}
			}
			for i, id := range asked {
				got := must[*pb.LeaseKeepAliveResponse](t)(stream.Recv())
				own := id == int64(one) || id == int64(two)
				if got.ID != id || own != (got.TTL == 60) || !own && got.TTL != 0 {
					t.Errorf("answer %d is %x with %d s, asked for %x", i, got.ID, got.TTL, id)
				}
			}
			if slices.Contains(spy.ids, int64(foreign)) {
				t.Error("etcd was asked to renew the foreign lease")
			}
			if n := s.Refusals()["lease_keep_alive"]; n != 2 {
				t.Errorf("%d refusals", n)
			}
		})
	}
}

func TestKeepAliveOfClientv3(t *testing.T) {
	for _, k := range carriers(t, "hostile") {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel() // it waits for renewals
			ctx, c := within(t), k.c
			own := must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 2)).ID
			renewals := must[<-chan *clientv3.LeaseKeepAliveResponse](t)(c.KeepAlive(ctx, own))
			<-renewals
			foreign := must[<-chan *clientv3.LeaseKeepAliveResponse](t)(c.KeepAlive(ctx, others(t)))
			for resp := range foreign {
				t.Errorf("renewed: %+v", resp)
			}
			for range 2 {
				if _, ok := <-renewals; !ok {
					t.Fatal("the own lease is no longer renewed")
				}
			}
		})
	}
}
