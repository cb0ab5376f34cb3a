package waitqueue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
)

// hintCount is how many waiting tickets an owner is told of: a read of the line
// serves as many handovers.
const hintCount = 16

// A pass lets a tenure go: it hands the names over, or frees them. It is sent
// until its outcome is known; the grant's revision guards it, so that a late
// copy of it does nothing.
type pass struct {
	t     *tenure
	owner *Owned // nil when the acquisition was given up
	force *Prev  // how it is ended from outside, or nil

	broken string           // what the record of a set becomes that loses this name by force
	lease  clientv3.LeaseID // of that set's owner

	parts []passPart
	one   [1]passPart // what parts is in, as a rule

	next   *acquisition // the local successor, chosen when the first request is built
	inLine bool         // next's ticket is put when somebody else is served first
	chosen bool
	plain  bool // without the heirs' shadows: a lease of one is gone
	bare   bool // without a put: etcd is out of space, and takes deletes only

	attempts int
	brief    brevity // of the request under way
	refused  bool    // a brief one that was to free the name
	foreseen bool    // the hints are those of a foresight
	unsure   bool    // an earlier request has an unknown outcome
	freed    bool    // nobody else waited: next owns at rev
	handed   bool    // somebody else was served: next's ticket was put at rev
	rev      int64   // of the request that did it
	begun    time.Time
	pause    time.Duration
	err      error
	asks     bool       // err may not be all that can be known
	late     chan error // says once that the outcome is unknown for a TTL
	finished chan struct{}
}

// A brevity says how much of the full request is sent. A brief request does what
// the full one would do in the same state, or nothing; after a refusal the full
// one follows.
type brevity int

const (
	full    brevity = iota
	freeing         // nobody waits: the row "none left" alone
	handing         // the first hint stands: its row alone
)

// A passPart is the pass of one name.
type passPart struct {
	p     *part
	rev   int64 // of the grant
	hints []hint
	more  []json.RawMessage // hints that nobody has looked into
	short bool              // the hints do not tell who is first: read the line
	plan  []level           // of the request under way
	heir  *hint             // of a transfer
	done  bool
}

// startPass begins to let the tenure go. The engine waits for its end.
func (t *tenure) startPass(owner *Owned) *pass {
	t.finish()
	p := t.newPass(owner)
	if l := t.a.line; l != nil {
		l.release()
	}
	if t.a.req.Deferred {
		p.announce()
	}
	if p.expired() || !t.a.q.e.Enter() { // the session has ended, and takes the keys with it
		p.conclude(t.a.req.Lost(t.a.q.ended()))
		return p
	}
	switch {
	case p.wantsHints() && t.a.req.Deferred:
		t.a.q.e.Go(func(ctx context.Context) {
			p.parts[0].readOldest(ctx, t.a.q.e)
			p.submit()
		})
	case p.wantsHints():
		p.parts[0].readOldest(t.a.q.e.Context(), t.a.q.e)
		p.runHere()
	case t.a.req.Deferred:
		p.submit()
	default:
		p.runHere()
	}
	return p
}

// wantsHints tells whether it is likely that somebody waits, and known of nobody.
// To read the oldest tickets first costs less than a request that etcd agrees on,
// writes to disk and then refuses.
func (p *pass) wantsHints() bool {
	return p.t.inLine && p.t.a.req.Mode == Exclusive && len(p.t.hints) == 0 && !p.foreseen
}

func (t *tenure) newPass(owner *Owned) *pass {
	p := &pass{t: t, owner: owner, begun: time.Now(), pause: 10 * time.Millisecond,
		late: make(chan error, 1), finished: make(chan struct{})}
	p.parts = p.one[:0]
	for i := range t.a.parts {
		p.parts = append(p.parts, passPart{p: &t.a.parts[i], rev: t.rev, more: t.hints})
	}
	p.parts[0].heir = t.heirTold()
	if hints, known := t.foreseen(); known {
		p.parts[0].hints, p.parts[0].more, p.foreseen = hints, nil, true
	}
	return p
}

// runHere is submit for a caller who waits for the pass.
func (p *pass) runHere() {
	p.t.a.q.e.Run(context.Background(), p.t.a.scope(), p.build, p.answered)
}

func (p *pass) submit() { p.t.a.q.e.Submit(p.t.a.scope(), p.build, p.answered) }

// answered is told of the request's outcome.
func (p *pass) answered(r commit.Result, err error) {
	q := p.t.a.q
	switch {
	case err == nil:
		p.rev = r.Revision
		p.advance(p.read(r))
		return
	case errors.Is(err, rpctypes.ErrLeaseNotFound) && !p.plain:
		p.leaseGone()
		return
	case errors.Is(err, rpctypes.ErrNoSpace) && !p.bare && p.canGoBare():
		// The member whose request fills the quota applies it, and says no space
		// all the same: what follows must cope with both.
		p.bare, p.inLine, p.unsure = true, false, true
		p.submit()
		return
	case q.s.Context().Err() != nil && (p.expired() || !errors.Is(err, commit.ErrUnknown)):
		p.conclude(p.t.a.req.Lost(q.ended()))
	case !errors.Is(err, commit.ErrUnknown), q.e.Context().Err() != nil:
		p.conclude(err)
	default:
		if time.Since(p.begun) > q.e.TTL() {
			p.overdue(err)
		}
		p.unsure = true
		p.pause = min(2*p.pause, time.Second)
		time.AfterFunc(p.pause/2+rand.N(p.pause/2), p.submit)
		return
	}
	q.e.Leave()
}

// overdue lets the caller go who has waited for a TTL. The pass goes on: as long
// as the session lives, its lease would keep the name from everybody else.
func (p *pass) overdue(err error) {
	select {
	case p.late <- err:
	default: // told already
	}
}

// lentPatience is how long a caller of a host waits for a release: whoever asked
// over a network gives up long before a TTL.
const lentPatience = 5 * time.Second

// wait returns what the pass came to, or that nobody knows after a TTL, or after
// lentPatience on a borrowed session.
func (p *pass) wait() error {
	select {
	case <-p.finished: // as a rule: no timer
		return p.err
	default:
	}
	var enough <-chan time.Time
	if p.t.a.q.e.Borrowed() {
		t := time.NewTimer(lentPatience - time.Since(p.begun))
		defer t.Stop()
		enough = t.C
	}
	select {
	case <-p.finished:
		return p.err
	case err := <-p.late:
		return err
	case <-enough:
		return fmt.Errorf("%w: etcd did not answer within %v", core.ErrUnknownOutcome, lentPatience)
	}
}

// leaseGone goes on after etcd refused a lease in the request: the session's
// own, which then has ended, or one that an heir's shadow stands on. An heir's
// own lease it cannot be: its ticket stands.
func (p *pass) leaseGone() {
	e := p.t.a.q.e
	e.Go(func(ctx context.Context) {
		if e.LeaseGone(ctx) {
			p.conclude(p.t.a.req.Lost(p.t.a.q.ended()))
			e.Leave()
			return
		}
		p.plain = true
		p.submit()
	})
}

// canGoBare tells whether the names can be let go by deletes alone. The first in
// line then claims, as if the owner had died. What an operator or a lost reply
// makes necessary to write cannot be left out.
func (p *pass) canGoBare() bool {
	return p.force == nil && p.broken == "" && !p.t.a.uncertain
}

func (p *pass) expired() bool { return errors.Is(p.t.a.q.ended(), core.ErrSessionExpired) }

// advance goes on after a reply: it ends the pass, or sends it again with what
// the reply told of the line, or with what only a read can tell.
func (p *pass) advance(done bool) {
	e := p.t.a.q.e
	switch {
	case done && p.asks:
		p.settle()
		e.Go(func(ctx context.Context) {
			p.err = p.t.a.req.Lost(p.t.whyLost(ctx, nil, 0))
			close(p.finished)
		})
		e.Leave()
	case done:
		p.conclude(p.err)
		e.Leave()
	case !p.needsRead():
		p.submit()
	default:
		e.Go(func(ctx context.Context) {
			for i := range p.parts {
				p.parts[i].readLine(ctx, e.Client())
			}
			p.submit()
		})
	}
}

// conclude ends the pass.
func (p *pass) conclude(err error) {
	p.err = err
	p.settle()
	close(p.finished)
}

// settle gives the local successor what it is due.
func (p *pass) settle() {
	t := p.t
	if t.a.req.Mode == Permits && p.force == nil && (p.freed || p.handed) {
		t.a.parts[0].n.gave(t.a.req.Permits, t.rev, p.rev)
	}
	if t.a.moves && p.err == nil && !p.bare {
		t.a.q.home.wrote(p.rev)
	}
	t.a.forget()
	if p.owner != nil && p.owner.a != t.a {
		p.owner.a.done()
	}
	if l := t.a.line; l != nil {
		p.succession(l)
	}
	if t.a.req.Deferred {
		p.denounce()
	}
}

// succession lets the next of the local line have its turn.
func (p *pass) succession(l *line) {
	switch {
	case p.next == nil:
		l.advance()
	case p.freed:
		l.succeed(p.next, handed{tenure: p.next.tenureAt(p.rev)})
	case p.handed && p.inLine:
		l.succeed(p.next, handed{create: p.rev})
	default:
		l.succeed(p.next, handed{unsure: p.unsure})
	}
}

// read reads the reply of a request, and reports whether nothing is left to do.
func (p *pass) read(r commit.Result) bool {
	switch p.brief {
	case freeing:
		return p.readRelease(r)
	case handing:
		p.handed = r.Succeeded
		p.parts[0].p.n.setCrowded(true)
		return r.Succeeded
	}
	if p.isGivenUp() {
		if !r.Succeeded {
			return true // it is another host's now
		}
		r = r.Nested(0)
	}
	at := len(p.setOps())
	all := true
	for i := range p.parts {
		part := &p.parts[i]
		if part.done {
			continue
		}
		branch := r
		if len(p.parts) > 1 {
			branch = r.Nested(at)
			at++
		}
		if branch.Succeeded {
			part.done = p.readPart(part, branch)
		} else {
			part.done = p.notOwner(part, branch)
		}
		all = all && part.done
	}
	return all
}

// notOwner reads why a name was not ours to pass any more, and reports whether
// nothing of ours is left. A late copy of an own request may have taken the
// name once more after it was forced out: then that grant is passed too.
func (p *pass) notOwner(part *passPart, r commit.Result) bool {
	own := kv(r, 0)
	forced := p.t.forcedOutBy(own)
	again := own != nil && recordOf(own).ID == p.t.a.id && p.force == nil
	if !p.unsure || forced != nil || again {
		p.lose(forced)
	} // else an earlier request of this pass did it
	if again {
		part.rev = own.ModRevision
	}
	return !again
}

// lose notes that a name was lost before the pass, and why if that is known: else
// the owner, who is told, has to ask.
func (p *pass) lose(cause error) {
	if errors.Is(p.err, core.ErrRevoked) { // as another name of the set says
		return
	}
	cause = cmp.Or(cause, p.t.revocation())
	p.asks = cause == nil && p.owner != nil && !p.t.a.req.Deferred
	p.err = p.t.a.req.Lost(cmp.Or(cause, core.ErrKeyDeleted))
}
