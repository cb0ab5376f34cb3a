package embedded

import (
	"context"
	"errors"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/server/v3/auth"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// noLeaderRounds is for how many rounds of votes a member may be without a leader until watches that require one end. It is etcd's own figure
// (v3rpc, maxNoLeaderCnt).
const noLeaderRounds = 3

var errMemberStopped = status.Error(codes.Canceled, "the member has stopped")

// watches is etcd's Watch API for callers in its process, to whom events need not be written over a connection. What etcd does for a stream outside
// of that API is done here: who asks for a leader is told when there is none, and a learner serves nobody.
type watches struct {
	server pb.WatchServer
	etcd   *etcdserver.EtcdServer
	login  *login

	mu       sync.Mutex
	open     map[*watchPipe]struct{}
	stopped  bool
	stopping chan struct{} // closed with it
	running  sync.WaitGroup
}

func newWatches(s *etcdserver.EtcdServer, l *login) *watches {
	w := &watches{server: v3rpc.NewWatchServer(s), etcd: s, login: l, open: make(map[*watchPipe]struct{}), stopping: make(chan struct{})}
	w.running.Go(w.followLeader)
	return w
}

// Watch opens a stream, which ends with ctx. Its errors are those of the stream.
func (w *watches) Watch(ctx context.Context, _ ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	p := newWatchPipe(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return nil, errMemberStopped
	}
	w.open[p] = struct{}{}
	w.running.Go(func() { w.serve(p) })
	return watchCaller{watchPipe: p}, nil
}

func (w *watches) serve(p *watchPipe) {
	err := w.refusal(p)
	if err == nil {
		err = w.server.Watch(watchServed{watchPipe: p, from: w})
	}
	p.finish(err)
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, p)
}

// refusal is why a stream is not served at all.
func (w *watches) refusal(p *watchPipe) error {
	if w.etcd.IsMemberExist(w.etcd.MemberID()) && w.etcd.IsLearner() {
		return rpctypes.ErrGRPCNotSupportedForLearner
	}
	if p.strict && w.etcd.Leader() == noLeader {
		return rpctypes.ErrGRPCNoLeader
	}
	return nil
}

// followLeader ends the streams that require a leader when the member has had none for some rounds of votes. etcd tells nobody that a leader is lost.
func (w *watches) followLeader() {
	round := time.NewTicker(w.etcd.Cfg.ElectionTimeout())
	defer round.Stop()
	for without := 0; ; {
		select {
		case <-round.C:
		case <-w.stopping:
			return
		}
		without++
		if w.etcd.Leader() != noLeader {
			without = 0
		}
		if without < noLeaderRounds {
			continue
		}
		w.mu.Lock()
		for p := range w.open {
			if p.strict {
				p.end(rpctypes.ErrGRPCNoLeader)
			}
		}
		w.mu.Unlock()
	}
}

// stop ends all streams, and waits until etcd has let them go.
func (w *watches) stop() {
	w.mu.Lock()
	w.stopped = true
	close(w.stopping)
	for p := range w.open {
		p.end(errMemberStopped)
	}
	w.mu.Unlock()
	w.running.Wait()
}

// admit gets a new token for a watch if etcd would refuse it for the one that there is: a stream has no second try of a call that was refused.
func (w *watches) admit(p *watchPipe, r *pb.WatchCreateRequest) {
	if w.login.member.cfg.Username == "" || !w.enter() {
		return
	}
	defer w.running.Done()
	token := w.login.current()
	info, err := w.etcd.AuthInfoFromCtx(with(p.served, token))
	if err == nil {
		if info == nil {
			info = new(auth.AuthInfo)
		}
		err = w.etcd.AuthStore().IsRangePermitted(info, r.Key, r.RangeEnd)
	}
	if errors.Is(err, auth.ErrUserEmpty) || errors.Is(err, auth.ErrInvalidAuthToken) || errors.Is(err, auth.ErrAuthOldRevision) {
		_, _ = w.login.renew(p.served, token) // without a token etcd itself says what is wrong
	}
}

// enter reports whether the member still serves, which it does until running.Done is called then.
func (w *watches) enter() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.running.Add(1)
	}
	return !w.stopped
}
