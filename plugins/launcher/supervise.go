package launcher

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/router"
)

// stopPatience bounds the end of a process whose host goes on.
const stopPatience = 10 * time.Second

// supervise runs the plugin's process until the instance is closed: it starts it,
// looks after it, starts it again when it has failed, and stops trying when that
// happens too often.
func (i *instance) supervise() {
	defer close(i.done)
	defer i.become(recipe.StateStopped, "")
	var p *process
	for i.ctx.Err() == nil {
		var err error
		if p == nil {
			i.become(recipe.StateStarting, "%s", i.history.last)
			p, err = i.opening.start(i.ctx, i.spec)
		}
		if err == nil {
			err = i.attend(p)
		}
		if i.ctx.Err() != nil {
			return
		}
		p = i.rest(i.history.add(time.Now(), err))
	}
}

// rest waits until the next start: for a while, or until somebody asks for it, who
// is given a process that is open already.
func (i *instance) rest(v verdict) *process {
	i.log.Warn("plugin failed", "version", i.spec.Version, "why", v.reason, "crashes", v.crashes)
	var over <-chan time.Time
	switch {
	case v.forGood:
		i.become(recipe.StateQuarantined, "%s; conclave plugin logs %s says more, conclave plugin restart %s starts it again",
			v.detail, i.opening.env.Instance, i.opening.env.Instance)
		// What is wrong is for the operator, in status; callers are told who can help.
		i.proxy.StayDown(fmt.Sprintf("the recipe stays down until its operator starts it: conclave plugin restart %s", i.opening.env.Instance))
	case v.pause > 0:
		i.become(recipe.StateBackoff, "%s; it is started again in %v", v.detail, v.pause.Round(time.Millisecond))
		fallthrough
	default:
		timer := time.NewTimer(v.pause)
		defer timer.Stop()
		over = timer.C
	}
	for {
		select {
		case <-i.ctx.Done():
			return nil
		case <-over:
			i.restarted()
			return nil
		case r := <-i.asked:
			if p := i.retry(r); p != nil {
				return p
			}
		}
	}
}

// retry starts what is asked for while nothing runs. It returns nil if that failed.
func (i *instance) retry(r request) *process {
	spec := i.spec
	if r.spec != nil {
		spec = r.spec
	}
	p, err := i.opening.start(i.ctx, spec)
	if err != nil {
		r.reply <- err
		return nil
	}
	if r.spec != nil {
		if err := i.exchange(p); err != nil {
			p.kill()
			r.reply <- err
			return nil
		}
	}
	i.history = crashes{cfg: i.cfg}
	i.restarted()
	i.serve(p)
	r.reply <- nil
	return p
}

// restarted counts a start that follows another.
func (i *instance) restarted() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.report.Restarts++
}

// attend looks after a process that is open until it has ended. It returns why, if
// nobody asked for it.
func (i *instance) attend(p *process) error {
	i.serve(p)
	check := time.NewTicker(i.cfg.CheckEvery)
	defer check.Stop()
	settled := time.NewTimer(i.cfg.Settled)
	defer settled.Stop()
	memory := time.NewTicker(memoryEvery)
	defer memory.Stop()
	h := &health{instance: i}
	for {
		select {
		case <-memory.C:
			if why := p.tooLarge(); why != "" {
				return i.lost(p, why)
			}
		case <-i.ctx.Done():
			i.finish(p)
			return nil
		case <-p.gone:
			return i.lost(p, p.ending())
		case <-settled.C:
			i.history.forget()
		case <-check.C:
			if why := h.look(p); why != "" {
				return i.lost(p, why)
			}
		case r := <-i.asked:
			if next := i.replace(p, r); next != nil {
				p = next
				h = &health{instance: i}
				settled.Reset(i.cfg.Settled)
			}
		}
	}
}

// ending says how a process ended that cannot be reached any more.
func (p *process) ending() string {
	soon := time.NewTimer(exitGrace)
	defer soon.Stop()
	select {
	case <-p.run.exited:
		return exitReason(p.run.err)
	case <-soon.C:
		return "its connection broke"
	}
}

// exitGrace is for the end of a process whose connection broke to become known.
const exitGrace = 200 * time.Millisecond

// serve sends calls to the process.
func (i *instance) serve(p *process) {
	i.proxy.Connect(p.conn, p.gone)
	i.show(p)
	i.become(recipe.StateReady, "")
}

// show makes p the process that is told of; nil: there is none.
func (i *instance) show(p *process) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.process = p; p != nil {
		i.took = p.took
	}
}

// finish ends the process because the instance is closed.
func (i *instance) finish(p *process) {
	ctx, cancel := context.WithTimeout(i.hard, stopPatience)
	defer cancel()
	i.proxy.Disconnect()
	p.stop(ctx, 0)
	i.show(nil)
}

// lost clears away a process that has failed, and keeps what it wrote last.
func (i *instance) lost(p *process, why string) error {
	i.proxy.Disconnect() // calls are held from now on
	i.show(nil)
	c := &Crash{At: time.Now(), Reason: why, Version: p.spec.Version, PID: p.pid()}
	// What it wrote has to be read first, which takes a moment that its callers
	// need not wait.
	i.closing.Go(func() {
		p.kill()
		i.opening.out.note("%s has failed: %s", p.who(), why)
		c.Output = i.opening.out.text(c.PID)
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.crash == nil || i.crash.At.Before(c.At) {
			i.crash = c
		}
	})
	return errors.New(why)
}

// replace starts another process beside the one that serves, and lets it take
// over. It returns nil if that failed, and nothing has changed.
func (i *instance) replace(p *process, r request) *process {
	spec := i.spec
	if r.spec != nil {
		spec = r.spec
	}
	if err := compatible(i.spec, spec); err != nil { // it may have become another one since it was asked for
		r.reply <- err
		return nil
	}
	next, err := i.opening.start(i.ctx, spec)
	if err != nil {
		r.reply <- err
		return nil
	}
	wait, err := i.takeOver(next)
	if err != nil {
		next.kill()
		r.reply <- err
		return nil
	}
	i.history = crashes{cfg: i.cfg}
	i.restarted()
	i.show(next)
	i.become(recipe.StateReady, "")
	i.closing.Go(func() { i.letGo(p, wait) })
	r.reply <- nil
	return next
}

// exchange is takeOver while nothing serves.
func (i *instance) exchange(next *process) error {
	_, err := i.takeOver(next) // no call is under way
	return err
}

// takeOver sends new calls to another process, whose services may be more.
func (i *instance) takeOver(next *process) (wait func(context.Context) error, err error) {
	var proxy *router.Proxy
	wait, err = i.opening.env.Carrier().Exchange(func(reg grpc.ServiceRegistrar) error {
		forward, ok := reg.(forwarder)
		if !ok {
			return errors.New("the host forwards nothing")
		}
		proxy = forward.Proxy(next.spec.services...)
		proxy.Connect(next.conn, next.gone)
		return nil
	})
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	i.proxy, i.spec = proxy, next.spec
	i.mu.Unlock()
	i.plugin.adopt(next.spec)
	return wait, nil
}

// letGo ends a process that another one has taken over from. It takes calls until
// the host has none for it any more: some are on their way when the other takes over.
func (i *instance) letGo(p *process, wait func(context.Context) error) {
	ctx, cancel := context.WithTimeout(i.ctx, i.cfg.Drain+drainSlack)
	defer cancel()
	_, err := p.control.Drain(ctx, &pluginv1.DrainRequest{StreamsOnly: true, Timeout: durationpb.New(i.cfg.Drain)})
	patient, done := context.WithTimeout(ctx, i.cfg.Drain)
	_ = wait(patient) // those that are left are told to come again
	done()
	if err == nil || i.ctx.Err() != nil {
		// Also when the host stops meanwhile: those who wait keep their places.
		final, done := context.WithTimeout(i.hard, drainSlack)
		_, err = p.control.Drain(final, &pluginv1.DrainRequest{})
		done()
	}
	if err != nil {
		i.log.Warn("the old process did not drain", "pid", p.pid(), "error", plain(err))
	}
	ending, done := context.WithTimeout(i.hard, stopPatience)
	defer done()
	p.end(ending)
}

// drainUntil makes a drain that ends a little before its own call does.
func drainUntil(ctx context.Context) *pluginv1.DrainRequest {
	end, ok := ctx.Deadline()
	if !ok {
		return &pluginv1.DrainRequest{Timeout: durationpb.New(stopPatience)}
	}
	return &pluginv1.DrainRequest{Timeout: durationpb.New(max(0, time.Until(end)/4))}
}

// crashes are what the plugin's failures of late come to.
type crashes struct {
	cfg  Config
	at   []time.Time // within Quarantine.Within
	row  int         // since it was settled
	last string      // what is said of the last one
}

// A verdict says what follows from a failure.
type verdict struct {
	reason  string
	detail  string
	pause   time.Duration
	crashes int
	forGood bool
}

// permanent are failures that another start cannot mend.
func permanent(err error) bool {
	for _, e := range []error{ErrChecksum, ErrMissing, ErrHandshake, ErrProtocol, errConfig, errServices} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// add counts a failure, and says what follows.
func (c *crashes) add(now time.Time, err error) verdict {
	c.at = slices.DeleteFunc(c.at, func(t time.Time) bool { return now.Sub(t) >= c.cfg.Quarantine.Within })
	c.at = append(c.at, now)
	c.row++
	c.last = err.Error()
	v := verdict{reason: c.last, detail: c.last, crashes: len(c.at)}
	switch {
	case permanent(err):
		v.forGood = true
	case len(c.at) >= c.cfg.Quarantine.Crashes:
		v.forGood = true
		v.detail = fmt.Sprintf("%d crashes within %v, the last one: %s", len(c.at), c.cfg.Quarantine.Within, c.last)
	case c.row > 1:
		v.pause = c.backoff()
	}
	return v
}

// backoff is the pause before the next start: the first of them, doubled for each
// crash, and up to half of it less, so that plugins that failed together do not
// start together.
func (c *crashes) backoff() time.Duration {
	d := c.cfg.Backoff
	for n := 2; n < c.row && d < c.cfg.MaxBackoff; n++ {
		d *= 2
	}
	d = min(d, c.cfg.MaxBackoff)
	return d - rand.N(d/2+1)
}

// forget forgets what has passed.
func (c *crashes) forget() { c.row, c.last = 0, "" }

// maxWords is how much is kept of what a process says of itself.
const maxWords = 2000

// plain is an error of a call in the words of the other side: text, whatever it sent,
// as no answer of the host's could hold anything else.
func plain(err error) error {
	if err == nil {
		return nil
	}
	if st, ok := status.FromError(err); ok {
		return errors.New(cut(strings.ToValidUTF8(st.Message(), "\uFFFD"), maxWords))
	}
	return err
}
