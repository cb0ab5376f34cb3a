package commit

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// enough is how many transactions are worth a request beside the one under way.
// Fewer wait for that: raft would write them to disk after it anyway, and they
// share one entry. It made 16 callers of a host a tenth faster. A large one counts
// for several: what it costs is its own work, which can go on beside another's.
// Where a crowd is at work only a full request is worth it: two that are less than
// full cost more than they overlap. It made 256 callers of a host a tenth faster.
const (
	enough = 16
	large  = 4  // keys of a scope, or writes, that count for one more
	crowd  = 48 // transactions under way and waiting; half of them still go beside the other half
)

// Config sets up a Committer. Zero values stand for the defaults.
type Config struct {
	KV      clientv3.KV
	Timeout time.Duration // of one request; 5 s
	Depth   int           // requests under way at once, while enough wait; 2, the best over gRPC
	MaxOps  int           // the server's max-txn-ops; found out from 128 on
	MaxSize int           // bytes of a batch; 512 KiB
	MaxTxns int           // transactions of a batch; 128
}

// A Committer combines and sends transactions. It is safe for concurrent use.
type Committer struct {
	cfg  Config
	ctx  context.Context // ends the requests under way on Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex
	pending  []*item
	inFlight int // requests
	underWay int // their transactions
	atWork   int // the most that were under way and waiting lately
	maxOps   int
	known    bool // the server takes no more than that
	wait     int  // batches until a plain one is tried
	distrust int  // for how many a refusal counts
	closed   bool
}

type item struct {
	scope []string
	build func() Txn
	done  func(Result, error)
	txn   Txn
}

// New returns a Committer. Close ends it.
func New(cfg Config) *Committer {
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.Depth == 0 {
		cfg.Depth = 2
	}
	if cfg.MaxSize == 0 {
		cfg.MaxSize = 512 << 10
	}
	if cfg.MaxTxns == 0 {
		cfg.MaxTxns = 128
	}
	c := &Committer{cfg: cfg, maxOps: cfg.MaxOps, known: cfg.MaxOps > 0}
	if !c.known {
		c.maxOps = firstOps
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

// A Ticket is a submitted transaction.
type Ticket struct {
	c *Committer
	i *item
}

// Submit queues a transaction. The function build is called once, when the
// batch is formed, so that it can see what came meanwhile; it must not block.
// The function done is called once with the result: with a definite error, or
// one that is ErrUnknown, or ErrClosed. It must not block for long either.
func (c *Committer) Submit(scope []string, build func() Txn, done func(Result, error)) Ticket {
	return c.submit(&item{scope: scope, build: build, done: done})
}

// SubmitBuilt is Submit for a transaction that is built already.
func (c *Committer) SubmitBuilt(t Txn, done func(Result, error)) Ticket {
	return c.submit(&item{scope: t.Scope, txn: t, done: done})
}

func (c *Committer) submit(i *item) Ticket {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		i.done(Result{}, ErrClosed)
		return Ticket{c, i}
	}
	c.pending = append(c.pending, i)
	start := c.inFlight == 0 || c.inFlight < c.cfg.Depth && c.worth()
	if start {
		c.inFlight++
		c.wg.Add(1)
	}
	c.mu.Unlock()
	if start {
		go c.run()
	}
	return Ticket{c, i}
}

// Run is Submit for a caller who waits for the result anyway: if no other
// transaction is under way it is sent in the caller's goroutine, which saves
// the lone one two switches. The request then ends with ctx too.
func (c *Committer) Run(ctx context.Context, scope []string, build func() Txn, done func(Result, error)) Ticket {
	return c.runNow(ctx, &item{scope: scope, build: build, done: done})
}

// RunBuilt is Run for a transaction that is built already. A large one is sent like
// that beside another request too.
func (c *Committer) RunBuilt(ctx context.Context, t Txn, done func(Result, error)) Ticket {
	return c.runNow(ctx, &item{scope: t.Scope, txn: t, done: done})
}

func (c *Committer) runNow(ctx context.Context, i *item) Ticket {
	c.mu.Lock()
	free := c.inFlight == 0 || c.inFlight < c.cfg.Depth && i.weight() >= c.least()
	if c.closed || len(c.pending) > 0 || !free {
		c.mu.Unlock()
		return c.submit(i)
	}
	c.inFlight++
	c.wg.Add(1)
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	stop := context.AfterFunc(c.ctx, cancel)
	if i.build != nil {
		i.txn = i.build()
	}
	r, err := c.oneWithin(ctx, &i.txn)
	stop()
	cancel()
	c.mu.Lock()
	more := len(c.pending) > 0
	if !more {
		c.inFlight--
	}
	c.mu.Unlock()
	if more {
		go c.run()
	} else {
		defer c.wg.Done()
	}
	i.done(r, err)
	return Ticket{c, nil}
}

// Withdraw takes a transaction back that is not under way yet. It reports
// whether it did: then the transaction was never sent, and done is not called.
func (t Ticket) Withdraw() bool {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	for k, i := range t.c.pending {
		if i == t.i {
			t.c.pending = append(t.c.pending[:k], t.c.pending[k+1:]...)
			return true
		}
	}
	return false
}

// Close refuses further transactions, and lets those that were submitted end
// until ctx ends. Those that were not sent by then are told ErrClosed, and
// those under way ErrUnknown. All are answered when Close returns.
func (c *Committer) Close(ctx context.Context) {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	release := context.AfterFunc(ctx, c.stop)
	defer release()
	c.wg.Wait()
	c.stop()
}

// run sends batches until nothing waits.
func (c *Committer) run() {
	defer c.wg.Done()
	for {
		c.mu.Lock()
		if c.inFlight > 1 && !c.worth() {
			c.inFlight--
			c.mu.Unlock()
			return
		}
		if len(c.pending) == 0 || c.ctx.Err() != nil {
			unsent := c.pending
			c.pending = nil
			c.inFlight--
			c.mu.Unlock()
			for _, i := range unsent {
				i.done(Result{}, ErrClosed)
			}
			return
		}
		candidates, maxOps := c.pick(), c.maxOps
		c.mu.Unlock()
		batch := c.fit(candidates, maxOps)
		c.count(len(batch))
		c.send(batch)
		c.count(-len(batch))
		if len(batch) > 1 {
			Gather(len(batch), c.cfg.MaxTxns, c.waiting)
		}
	}
}

// worth tells whether what waits is enough for a request beside the one under way.
// It is called with the lock held.
func (c *Committer) worth() bool {
	n, least := 0, c.least()
	for k := 0; k < len(c.pending) && n < least; k++ {
		n += c.pending[k].weight()
	}
	return n >= least
}

// least is what such a request weighs at least.
func (c *Committer) least() int {
	if c.atWork > crowd {
		return c.cfg.MaxTxns
	}
	return enough
}

// weight is how many small transactions one counts for.
func (i *item) weight() int { return 1 + max(len(i.scope), len(i.txn.Then))/large }

// count notes that n more transactions are under way. What was at work before is
// forgotten within some tens of requests.
func (c *Committer) count(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.underWay += n
	if n > 0 {
		c.atWork = max(c.underWay+len(c.pending), c.atWork-c.atWork/8-1)
	}
}

// pick takes transactions without a common scope from the pending ones, the
// first always among them. It is called with the lock held.
func (c *Committer) pick() []*item {
	picked := make([]*item, 0, min(len(c.pending), c.cfg.MaxTxns))
	rest := c.pending[:0]
	scopes := make(map[string]struct{}, len(c.pending))
	for _, i := range c.pending {
		free := len(picked) < c.cfg.MaxTxns && !clash(scopes, i.scope)
		claim(scopes, i.scope) // also if not: no later one may overtake it
		if free {
			picked = append(picked, i)
		} else {
			rest = append(rest, i)
		}
	}
	clear(c.pending[len(rest):])
	c.pending = rest
	return picked
}

// fit builds the transactions, without the lock, since build functions take
// their own, and puts back what would make the batch too large for the server, or
// for a plain one where all before it could be that.
func (c *Committer) fit(items []*item, maxOps int) []*item {
	batch := items[:0:len(items)]
	var back []*item
	cut := false
	widest, bytes, cmps, then, likely := 0, 0, 0, 0, true
	for _, i := range items {
		if i.build != nil {
			i.txn, i.build = i.build(), nil
		}
		w, b := max(widest, i.txn.ops()), bytes+i.txn.size()
		ifs, thens, plain := cmps+len(i.txn.If), then+len(i.txn.Then), likely && i.txn.Likely
		many := len(batch)+1+w > maxOps || plain && max(ifs, thens) > maxOps
		if len(batch) > 0 && (many || b > c.cfg.MaxSize) {
			back, cut = append(back, i), cut || many
			continue
		}
		batch, widest, bytes, cmps, then, likely = append(batch, i), w, b, ifs, thens, plain
	}
	if len(back) > 0 {
		c.mu.Lock()
		c.pending = append(back, c.pending...)
		c.mu.Unlock()
	}
	if cut {
		c.raise(maxOps)
	}
	return batch
}

func clash(taken map[string]struct{}, scope []string) bool {
	for _, s := range scope {
		if _, ok := taken[s]; ok {
			return true
		}
	}
	return false
}

func claim(taken map[string]struct{}, scope []string) {
	for _, s := range scope {
		taken[s] = struct{}{}
	}
}
