package scope_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/scope"
	"github.com/conclavehq/conclave/lock"
)

func TestNamesOfInstances(t *testing.T) {
	for _, name := range []string{"", "_host", "Lock", "a/b", "lock/", "..", "a\x00", strings.Repeat("a", 65)} {
		_, err := scope.New(scope.FromClient(etcd.Client(t)), name, nil)
		if e, ok := errors.AsType[*keyspace.Error](err); !ok || e.Field != "instance" {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// The lock library runs on a space as it does on etcd, with sessions of its own,
// in the member's process and over connections, against a user of plain etcd.
func TestLockLibrary(t *testing.T) {
	clients := map[string]*clientv3.Client{"plain": etcd.Client(t)}
	spaces := carriers(t, "lock")
	for _, k := range spaces {
		clients[k.name] = k.c
	}
	ctx, name := within(t), etcd.Prefix(t)
	var holders atomic.Int32
	done := make(chan error, len(clients))
	for who, c := range clients {
		go func() {
			done <- func() error {
				s, err := core.NewSession(ctx, c, core.WithOwner(who))
				if err != nil {
					return err
				}
				m := lock.NewMutex(s, name, lock.WithLockDelay(time.Second))
				for range 20 {
					if err := m.Do(ctx, func(context.Context) error {
						if holders.Add(1) != 1 {
							return errors.New("two holders")
						}
						holders.Add(-1)
						return nil
					}); err != nil {
						return err
					}
				}
				if _, err := m.Contenders(ctx); err != nil {
					return err
				}
				return errors.Join(several(ctx, s, name+"-more"), s.Close())
			}()
		}()
	}
	for range clients {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, k := range spaces {
		refused := k.space.Refusals()
		delete(refused, "member_list") // a session asks how many members there are, and lives without an answer
		if len(refused) != 0 {
			t.Errorf("%s: refused %v", k.name, refused)
		}
	}
}

// several uses the other kinds of lock once.
func several(ctx context.Context, s *core.Session, name string) error {
	permit, err := lock.NewSemaphore(s, name+"-s", 2).Acquire(ctx, 1)
	if err != nil {
		return err
	}
	read, err := lock.NewRWMutex(s, name+"-rw").RLock(ctx)
	if err != nil {
		return err
	}
	multi, err := lock.NewMulti(s, []string{name + "-1", name + "-2"}).Lock(ctx)
	if err != nil {
		return err
	}
	return errors.Join(multi.Unlock(), read.Unlock(), permit.Release())
}

func TestLargeAnswers(t *testing.T) {
	for _, k := range carriers(t, "large") {
		if strings.HasPrefix(k.name, "served") {
			continue // the other process says itself how much it takes
		}
		t.Run(k.name, func(t *testing.T) {
			ctx, p := within(t), keyspace.Prefix("default", "large", k.name)
			value := strings.Repeat("x", 1<<20)
			watched := k.c.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithRev(etcd.Revision(t)+1))
			for i := range 6 {
				must[*clientv3.PutResponse](t)(k.c.Put(ctx, fmt.Sprint(p, i), value))
			}
			if got := must[*clientv3.GetResponse](t)(k.c.Get(ctx, p, clientv3.WithPrefix())); len(got.Kvs) != 6 {
				t.Errorf("%d keys", len(got.Kvs))
			}
			got := must[*clientv3.GetResponse](t)(clientv3.GetStreamToGetResponse(must[clientv3.GetStreamChan](t)(k.c.KV.GetStream(ctx, p, clientv3.WithPrefix()))))
			if len(got.Kvs) != 6 {
				t.Errorf("%d keys in parts", len(got.Kvs))
			}
			for seen := 0; seen < 6; {
				resp := <-watched
				if resp.Err() != nil || len(resp.Events) == 0 {
					t.Fatalf("watch: %v, %d events", resp.Err(), len(resp.Events))
				}
				seen += len(resp.Events)
			}
			must[*clientv3.DeleteResponse](t)(k.c.Delete(ctx, p, clientv3.WithPrefix()))
		})
	}
}

func TestARefusalIsLoggedOncePerKind(t *testing.T) {
	var out bytes.Buffer
	s, err := scope.New(scope.FromClient(etcd.Client(t)), "hostile", slog.New(slog.NewJSONHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		_, err1 := s.Client().Get(within(t), "secret-key")
		_, err2 := s.Client().Put(within(t), "secret-key", "secret-value")
		_, err3 := s.Client().UserList(within(t))
		_, err4 := s.Client().MemberList(within(t)) // at debug: every session asks it
		for _, err := range []error{err1, err2, err3, err4} {
			if !errors.Is(err, rpctypes.ErrPermissionDenied) {
				t.Errorf("got %v", err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(out.String(), "\n"); n != 3 || strings.Contains(out.String(), "secret") {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
	if got := fmt.Sprint(s.Refusals()); got != "map[auth:5 member_list:5 put:5 range:5]" {
		t.Errorf("counted %s", got)
	}
}

// Private leases that end by themselves are forgotten, others are not.
func TestEndedLeasesAreForgotten(t *testing.T) {
	s := newSpace(t, scope.Backend(etcd.Member().Direct()), "hostile")
	ctx, c, plain := within(t), s.Client(), etcd.Client(t)
	kept := must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 600)).ID
	renewals := must[<-chan *clientv3.LeaseKeepAliveResponse](t)(c.KeepAlive(ctx, must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 1)).ID))
	s.Overdue(kept) // as after a change of leader, which gives every lease its whole time again
	for range 3 * scope.SweepAt {
		lease := must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 600)).ID
		must[*clientv3.LeaseRevokeResponse](t)(plain.Revoke(ctx, lease)) // behind the space's back
		s.Overdue(lease)
	}
	if n := s.OwnLeases(); n > 2*scope.SweepAt {
		t.Errorf("%d leases are remembered, and 2 stand", n)
	}
	if n := s.OwnLeases(); n < 2 {
		t.Errorf("%d leases are remembered, and 2 stand", n)
	}
	must[*clientv3.LeaseKeepAliveResponse](t)(c.KeepAliveOnce(ctx, kept))
	if _, ok := <-renewals; !ok {
		t.Error("a lease that is renewed was forgotten")
	}
}

func TestCloseEndsTheStreamsOfOthers(t *testing.T) {
	s, err := scope.New(scope.Backend(etcd.Member().Direct()), "hostile", nil)
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, serve(t, s)).ActiveConnection()
	ctx := t.Context() // which does not end by itself
	watch := must[pb.Watch_WatchClient](t)(pb.NewWatchClient(conn).Watch(ctx))
	create(t, watch, &pb.WatchCreateRequest{Key: []byte("/conclave/default/hostile/a")})
	must[*pb.WatchResponse](t)(watch.Recv())
	own := must[*clientv3.LeaseGrantResponse](t)(s.Client().Grant(within(t), 60)).ID
	renew := must[pb.Lease_LeaseKeepAliveClient](t)(pb.NewLeaseClient(conn).LeaseKeepAlive(ctx))
	for range 2 {
		if err := renew.Send(&pb.LeaseKeepAliveRequest{ID: int64(own)}); err != nil {
			t.Fatal(err)
		}
		must[*pb.LeaseKeepAliveResponse](t)(renew.Recv())
	}
	local := s.Client().Watch(ctx, "/conclave/default/hostile/a")
	closed := make(chan error, 1)
	go func() { closed <- errors.Join(s.Close(), s.Close()) }()
	select {
	case err := <-closed:
		if err != nil {
			t.Errorf("close: %v", err)
		}
	case <-within(t).Done():
		t.Fatal("Close waits for a stream that nobody ends")
	}
	if _, err := watch.Recv(); err == nil {
		t.Error("the watch goes on")
	}
	if _, err := renew.Recv(); err == nil {
		t.Error("the renewals go on")
	}
	if _, ok := <-local; ok {
		t.Error("the client's watch goes on")
	}
	late := must[pb.Watch_WatchClient](t)(pb.NewWatchClient(conn).Watch(within(t)))
	if _, err := late.Recv(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a stream after Close: %v", err)
	}
	if left := must[*clientv3.LeaseTimeToLiveResponse](t)(etcd.Client(t).TimeToLive(within(t), own)); left.TTL <= 0 {
		t.Error("the recipe's lease was revoked")
	}
}

// What the caller half closes, etcd still answers.
func TestAStreamThatIsHalfClosed(t *testing.T) {
	for _, k := range carriers(t, "hostile")[3:] {
		own := must[*clientv3.LeaseGrantResponse](t)(k.c.Grant(within(t), 60)).ID
		stream := must[pb.Lease_LeaseKeepAliveClient](t)(pb.NewLeaseClient(k.c.ActiveConnection()).LeaseKeepAlive(within(t)))
		if err := errors.Join(stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(own)}), stream.CloseSend()); err != nil {
			t.Fatal(err)
		}
		if resp, err := stream.Recv(); err != nil || resp.TTL != 60 {
			t.Errorf("%s: %v, %v", k.name, resp, err)
		}
		if _, err := stream.Recv(); err == nil || status.Code(err) == codes.DeadlineExceeded {
			t.Errorf("%s: the stream goes on: %v", k.name, err)
		}
	}
}

// What the space does not serve is refused, and not merely unknown.
func TestUnknownMethodsAreRefused(t *testing.T) {
	s := newSpace(t, scope.Backend(etcd.Member().Direct()), "hostile")
	conn := dial(t, serve(t, s)).ActiveConnection()
	err := conn.Invoke(within(t), "/etcdserverpb.Tomorrow/Everything", &pb.StatusRequest{}, &pb.StatusResponse{}, grpc.WaitForReady(true))
	if status.Code(err) != codes.PermissionDenied || s.Refusals()["unknown"] != 1 {
		t.Errorf("got %v, counted %v", err, s.Refusals())
	}
}
