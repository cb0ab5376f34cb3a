package core_test

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// A leaseServer is etcd's Lease service on the fake clock of testing/synctest,
// where the real server cannot run. It ends leases exactly when they are due,
// which is what the tests of time need to know, and can lose or delay what
// travels between a session and itself.
type leaseServer struct {
	pb.UnimplementedLeaseServer
	pb.UnimplementedClusterServer

	mu      sync.Mutex
	next    int64
	granted map[int64]lease
	renewed int
	travel  func() trip   // of the next renewal
	quirk   time.Duration // what it adds to the TTL that it is asked for
	deaf    bool          // it answers no revocation
	members []*pb.Member  // one voter, if none
}

type lease struct {
	ttl time.Duration
	end time.Time
}

// A trip is what happens to one renewal: how long it and its reply travel, and
// which of the two is lost.
type trip struct {
	there, back         time.Duration
	loseThere, loseBack bool
}

func smooth() trip { return trip{} }

// dial starts the server, and returns a client of it. Both end with the test.
func (s *leaseServer) dial(t *testing.T) *clientv3.Client {
	t.Helper()
	s.granted = make(map[int64]lease)
	if s.travel == nil {
		s.travel = smooth
	}
	l := bufconn.Listen(1 << 16)
	g := grpc.NewServer()
	pb.RegisterLeaseServer(g, s)
	pb.RegisterClusterServer(g, s)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = g.Serve(l) // ends with Stop
	}()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"passthrough:///lease"},
		Logger:    zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return l.DialContext(ctx)
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		g.Stop()
		<-served
	})
	return c
}

func (s *leaseServer) set(travel func() trip) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.travel = travel
}

func (s *leaseServer) trip() trip {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.travel()
}

// alive tells whether the lease stands, and renewals how often it was renewed.
func (s *leaseServer) alive(id clientv3.LeaseID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.granted[int64(id)].end)
}

func (s *leaseServer) renewals() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renewed
}

// refill is what a change of leader does: every lease has its full time again.
func (s *leaseServer) refill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.granted {
		s.renew(id)
	}
}

// renew is called with the lock held.
func (s *leaseServer) renew(id int64) (time.Duration, bool) {
	l, ok := s.granted[id]
	if !ok || !time.Now().Before(l.end) {
		delete(s.granted, id)
		return 0, false
	}
	l.end = time.Now().Add(l.ttl)
	s.granted[id] = l
	return l.ttl, true
}

func (s *leaseServer) MemberList(context.Context, *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	if s.members == nil {
		return &pb.MemberListResponse{Members: []*pb.Member{{}}}, nil
	}
	return &pb.MemberListResponse{Members: s.members}, nil
}

func (s *leaseServer) LeaseGrant(_ context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	ttl := time.Duration(r.TTL)*time.Second + s.quirk
	s.granted[s.next] = lease{ttl: ttl, end: time.Now().Add(ttl)}
	return &pb.LeaseGrantResponse{ID: s.next, TTL: int64(ttl / time.Second)}, nil
}

func (s *leaseServer) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	if s.deaf {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.granted, r.ID)
	return &pb.LeaseRevokeResponse{}, nil
}

func (s *leaseServer) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			return err // the client is done
		}
		trip := s.trip()
		if !pause(stream.Context(), trip.there) {
			return status.Error(codes.Canceled, "the client is gone")
		}
		if trip.loseThere {
			<-stream.Context().Done()
			return nil
		}
		s.mu.Lock()
		ttl, _ := s.renew(r.ID)
		s.renewed++
		s.mu.Unlock()
		if !pause(stream.Context(), trip.back) {
			return status.Error(codes.Canceled, "the client is gone")
		}
		if trip.loseBack {
			<-stream.Context().Done()
			return nil
		}
		if err := stream.Send(&pb.LeaseKeepAliveResponse{ID: r.ID, TTL: int64(ttl / time.Second)}); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// rough is a network that delays and loses renewals and replies, and now and
// then lets nothing through for a while.
func rough(r *rand.Rand) func() trip {
	bad := 0
	return func() trip {
		if bad == 0 && r.IntN(8) == 0 {
			bad = 1 + r.IntN(6)
		}
		t := trip{there: time.Duration(r.IntN(2000)) * time.Millisecond, back: time.Duration(r.IntN(2000)) * time.Millisecond}
		if bad > 0 {
			bad--
			t.loseThere = r.IntN(2) == 0
			t.loseBack = !t.loseThere
		}
		return t
	}
}
