package session

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/clock"
	"github.com/conclavehq/conclave/internal/commit"
)

// A hold is a session with fast release that hangs on a connection of this host.
type hold struct {
	st    *state
	conn  *Conn  // nil: its end proves nothing
	name  string // of the attachment, in the record
	rev   int64  // of the record when it was attached
	mu    sync.Mutex
	last  clock.Stamp // when the last heartbeat arrived that is answered
	ended bool        // the connection has, and nothing is answered any more
}

// beat notes a heartbeat before it is answered. It returns false if the
// connection has ended, and the heartbeat must not be answered.
func (h *hold) beat(at clock.Stamp) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return false
	}
	h.last = at
	return true
}

// end stops answers for good, and returns when the last heartbeat arrived that
// got one.
func (h *hold) end() clock.Stamp {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	return h.last
}

// attach writes into the session's record that it hangs on this stream, and
// returns when that is certain. Whoever was attached before cannot release it
// from then on.
//
// It goes on when the caller goes away meanwhile: its process may have died, and
// what may have been attached must then be released.
func (s *Service) attach(call context.Context, st *state, b beat) (*hold, error) {
	ctx, cancel := context.WithTimeout(s.active, callBudget)
	defer cancel()
	h := &hold{st: st, name: uuid.NewString(), last: b.at}
	if c := connOf(call); c != nil && c.local {
		h.conn = c
	}
	if err := s.tryAttach(ctx, h, b.GetSequence()); err != nil {
		if s.active.Err() != nil {
			return nil, stopping()
		}
		return nil, err
	}
	s.hang(h)
	return h, nil
}

func (s *Service) tryAttach(ctx context.Context, h *hold, sequence int64) error {
	for {
		kv, rev, err := s.readRecord(ctx, h.st.key())
		if err != nil {
			return err
		}
		if kv == nil {
			return expired("session %s has ended", h.st.id)
		}
		now, err := parse(kv)
		switch {
		case err != nil || now.Ending:
			return expired("session %s has ended", h.st.id)
		case now.Conn == h.name: // written by a try whose reply was lost
			h.rev = now.rev
			s.view.learn(now, rev)
			return nil
		case now.Conn != "" && now.Seq >= sequence:
			return conflict("sequence: %d is not larger than %d, with which a later stream of the session began", sequence, now.Seq)
		}
		next := attachment{Conn: h.name, Seq: sequence, Host: s.cfg.Host}
		h.rev, err = s.amend(ctx, kv, next)
		switch {
		case err == nil && h.rev > 0:
			return nil
		case err != nil && !errors.Is(err, commit.ErrUnknown):
			return writeFailed(ctx, err)
		}
	}
}

// amend replaces the attachment of a record, if it is still as it was read. It
// returns the revision of that, 0 if the record has changed.
func (s *Service) amend(ctx context.Context, kv *mvccpb.KeyValue, next attachment) (rev int64, err error) {
	value, err := next.with(kv.Value)
	if err != nil {
		return 0, err
	}
	key := string(kv.Key)
	resp, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", kv.ModRevision)).
		Then(clientv3.OpPut(key, string(value), clientv3.WithLease(clientv3.LeaseID(kv.Lease)))).
		Commit()
	if err != nil {
		return 0, commit.Classify(err)
	}
	if !resp.Succeeded {
		return 0, nil
	}
	return resp.Header.Revision, nil
}

// hang makes the end of the hold's connection count.
func (s *Service) hang(h *hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.holds[h.st.id]; old != nil && old.rev > h.rev {
		return
	}
	s.drop(h.st.id)
	s.holds[h.st.id] = h
	if h.conn == nil {
		return
	}
	on := s.conns[h.conn]
	if on == nil {
		on = make(map[uuid.UUID]*hold)
		s.conns[h.conn] = on
		s.startLocked(func() { s.watchConn(h.conn) })
	}
	on[h.st.id] = h
}

// drop forgets the hold on a session. It is called with mu held.
func (s *Service) drop(id uuid.UUID) {
	h := s.holds[id]
	if h == nil {
		return
	}
	delete(s.holds, id)
	delete(s.conns[h.conn], id)
}

// watchConn waits for the end of a connection, and releases what hangs on it if
// that was the end of the process at its other end.
func (s *Service) watchConn(c *Conn) {
	select {
	case <-c.ended:
	case <-s.active.Done():
	}
	s.mu.Lock()
	on := s.conns[c]
	delete(s.conns, c)
	s.mu.Unlock()
	if s.active.Err() != nil || !c.byPeer {
		return
	}
	next := make(chan *hold)
	var all sync.WaitGroup
	for range min(releasers, len(on)) {
		all.Go(func() {
			for h := range next {
				s.release(h)
			}
		})
	}
	for _, h := range on {
		next <- h
	}
	close(next)
	all.Wait()
}

const (
	// releasers bounds the releases under way for one connection.
	releasers = 64
	// releasePause is between two tries that etcd did not answer.
	releasePause = 200 * time.Millisecond
)

// release ends a session whose process died. It is two steps: the first is a
// transaction that only the last attachment can win, and only its winner revokes
// the lease, which no transaction could guard.
func (s *Service) release(h *hold) {
	last := h.end()
	// The process may live and only its connection be gone: then it may count on
	// its last heartbeat for so long.
	for wait := fastValidity - clock.Since(last); wait > 0; wait = fastValidity - clock.Since(last) {
		if !pause(s.active, wait) {
			return
		}
	}
	ended := clock.Now()
	for clock.Since(ended) < h.st.ttl { // nobody renews it any more
		won, over := s.markEnding(h)
		if won {
			s.revoke(h, ended)
		}
		if over || !pause(s.active, releasePause) {
			return
		}
	}
}

// markEnding tries the first step. won says that this attachment has won it,
// over that nothing remains to be tried.
func (s *Service) markEnding(h *hold) (won, over bool) {
	ctx, cancel := context.WithTimeout(s.active, callBudget)
	defer cancel()
	kv, _, err := s.readRecord(ctx, h.st.key())
	if err != nil {
		return false, false
	}
	if kv == nil {
		return false, true
	}
	now, err := parse(kv)
	switch {
	case err != nil || now.Conn != h.name:
		return false, true
	case now.Ending: // marked by a try whose reply was lost
		return true, true
	}
	next := now.attachment
	next.Ending = true
	rev, err := s.amend(ctx, kv, next)
	return rev > 0, rev > 0 || (err != nil && !errors.Is(err, commit.ErrUnknown))
}

// revoke is the second step. If it fails until the TTL is over, the lease has
// ended by itself.
func (s *Service) revoke(h *hold, since clock.Stamp) {
	for clock.Since(since) < h.st.ttl {
		ctx, cancel := context.WithTimeout(s.life, callBudget)
		_, err := s.client.Revoke(ctx, h.st.lease)
		cancel()
		if err == nil || errors.Is(err, rpctypes.ErrLeaseNotFound) {
			s.log.Info("session released: its connection ended", "session", h.st.id, "namespace", h.st.namespace, "owner", h.st.owner)
			s.cfg.Released(Release{ID: h.st.id.String(), Namespace: h.st.namespace, Owner: h.st.owner, At: time.Now()})
			return
		}
		if !pause(s.life, releasePause) {
			return
		}
	}
}

// pause waits, and returns false if ctx ended first.
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
