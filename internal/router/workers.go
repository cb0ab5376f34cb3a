package router

import "sync"

// maxIdle bounds the workers that wait for calls. Those that are busy are not
// bounded here: a call may wait for another.
const maxIdle = 256

// workers run the calls of pipelines. They stay for the next one, because a
// goroutine whose stack has grown to what a call needs is worth keeping; the one
// that rested last goes first, since it is the warmest.
type workers struct {
	all *group

	mu     sync.Mutex
	idle   []*worker
	closed bool
}

// A worker is a goroutine that runs calls.
type worker struct {
	next chan *piped // one call, or nil: there will be none
}

func newWorkers() *workers { return &workers{all: newGroup()} }

// run serves a call in a goroutine of the pool.
func (w *workers) run(p *piped) {
	w.mu.Lock()
	if n := len(w.idle) - 1; n >= 0 {
		one := w.idle[n]
		w.idle = w.idle[:n]
		w.mu.Unlock()
		one.next <- p
		return
	}
	w.mu.Unlock()
	if !w.all.enter() {
		p.run() // the router is closed, and refuses it at once
		return
	}
	go w.work(p)
}

func (w *workers) work(p *piped) {
	defer w.all.leave()
	p.run()
	for me := (&worker{next: make(chan *piped, 1)}); w.rest(me); {
		next := <-me.next
		if next == nil {
			return
		}
		next.run()
	}
}

// rest adds a worker to those that wait; if not, it is not needed any more.
func (w *workers) rest(me *worker) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.idle) >= maxIdle {
		return false
	}
	w.idle = append(w.idle, me)
	return true
}

// close ends the workers. No call is under way any more. It is idempotent.
func (w *workers) close() {
	w.all.close()
	w.mu.Lock()
	idle := w.idle
	w.idle, w.closed = nil, true
	w.mu.Unlock()
	for _, one := range idle {
		one.next <- nil
	}
}
