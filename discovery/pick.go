package discovery

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// A PickOption says how [Snapshot.Pick] chooses.
type PickOption struct {
	kind pickKind
	text string
	more string
}

type pickKind int

const (
	roundRobin pickKind = iota
	random
	weighted
	leastOfTwo
	sticky
	rendezvous
	inZone
	withTag
	withVersion
	withMetadata
	not
)

// RoundRobin takes one instance after the other, in turn for all readers of the
// service in this process. It is what Pick does when nothing else is said.
func RoundRobin() PickOption { return PickOption{kind: roundRobin} }

// Random takes any, all with the same chance.
func Random() PickOption { return PickOption{kind: random} }

// Weighted takes any, each with the chance that its weight gives it.
func Weighted() PickOption { return PickOption{kind: weighted} }

// LeastOfTwo takes the less busy one of two that chance chose ("power of two
// choices"). Busy is what [Snapshot.Use] counts.
func LeastOfTwo() PickOption { return PickOption{kind: leastOfTwo} }

// Sticky takes the same instance for the same key as long as it is there, in
// this process; a key that is new gets any.
func Sticky(key string) PickOption { return PickOption{kind: sticky, text: key} }

// Rendezvous takes the same instance for the same key in every process, by
// weighted rendezvous hashing: when instances come or go, only the keys of those
// move.
func Rendezvous(key string) PickOption { return PickOption{kind: rendezvous, text: key} }

// PreferZone leaves out instances of other zones, if there is one of this zone.
func PreferZone(zone string) PickOption { return PickOption{kind: inZone, text: zone} }

// WithTag leaves out instances without the tag.
func WithTag(tag string) PickOption { return PickOption{kind: withTag, text: tag} }

// WithVersion leaves out instances of other versions.
func WithVersion(version string) PickOption { return PickOption{kind: withVersion, text: version} }

// WithMetadata leaves out instances that do not have the value under the key.
func WithMetadata(key, value string) PickOption {
	return PickOption{kind: withMetadata, text: key, more: value}
}

// Not leaves out the instance of this id, for another try after a failure.
func Not(id string) PickOption { return PickOption{kind: not, text: id} }

// Pick chooses one of Instances. Without options it is [RoundRobin]; options that
// leave out apply to whatever chooses. Instances that failed several times in a
// row, as [Snapshot.Report] says, are left out for a while, unless all did. The
// error is [ErrNoInstance].
func (s *Snapshot) Pick(opts ...PickOption) (Instance, error) {
	p := picker{s: s, opts: opts}
	if s.balance == nil {
		p.s = &Snapshot{Service: s.Service, Instances: s.Instances, balance: newBalance()}
	}
	for _, o := range opts {
		if o.kind <= rendezvous {
			p.how = o
		}
		if o.kind == inZone {
			p.zone = o.text
		}
	}
	if p.s.balance.ejected.Load() > 0 {
		p.now = time.Now()
	}
	n := p.count()
	if n == 0 && !p.now.IsZero() {
		p.now = time.Time{} // all of them failed: better one of those than none
		n = p.count()
	}
	if n == 0 {
		return Instance{}, fmt.Errorf("service %q: %w", s.Service, ErrNoInstance)
	}
	return p.s.Instances[p.choose(n)], nil
}

// Report says how a request to an instance ended. After 5 failures in a row Pick
// leaves the instance out for 30 s, longer each time, up to 5 minutes; one success
// ends that.
func (s *Snapshot) Report(id string, err error) {
	if s.balance != nil {
		s.balance.report(id, err, time.Now())
	}
}

// Use counts a request to an instance as under way, for [LeastOfTwo], until done
// is called, once, with its outcome, which is reported as by [Snapshot.Report].
func (s *Snapshot) Use(id string) (done func(err error)) {
	if s.balance == nil {
		return func(error) {}
	}
	u := s.balance.make(id)
	u.pending.Add(1)
	return func(err error) {
		u.pending.Add(-1)
		s.balance.report(id, err, time.Now())
	}
}

// A picker is one choice. It makes no list: it counts, and then goes to the one
// that was chosen.
type picker struct {
	s    *Snapshot
	opts []PickOption
	how  PickOption
	zone string
	now  time.Time // zero: failed ones are not left out
}

// count returns how many can be chosen, and drops the zone if it has none.
func (p *picker) count() int {
	for {
		n := 0
		for k := range p.s.Instances {
			if p.fits(k) {
				n++
			}
		}
		if n > 0 || p.zone == "" {
			return n
		}
		p.zone = ""
	}
}

func (p *picker) fits(k int) bool {
	i := &p.s.Instances[k]
	if p.zone != "" && i.Zone != p.zone {
		return false
	}
	for j := range p.opts {
		if !p.opts[j].fits(i) {
			return false
		}
	}
	return p.now.IsZero() || !p.s.balance.out(i.ID, p.now)
}

func (o *PickOption) fits(i *Instance) bool {
	switch o.kind {
	case withTag:
		return slices.Contains(i.Tags, o.text)
	case withVersion:
		return i.Version == o.text
	case withMetadata:
		v, ok := i.Metadata[o.text]
		return ok && v == o.more
	case not:
		return i.ID != o.text
	}
	return true
}

// choose returns the index of the one of n that fits and is chosen.
func (p *picker) choose(n int) int {
	switch p.how.kind {
	case random:
		return p.nth(rand.IntN(n))
	case weighted:
		return p.byWeight()
	case leastOfTwo:
		return p.lessBusy(n)
	case sticky:
		return p.same(n)
	case rendezvous:
		return p.highest()
	}
	return p.nth(int(p.s.balance.turn.Add(1) % uint64(n))) //nolint:gosec // less than n
}

func (p *picker) nth(n int) int {
	for k := range p.s.Instances {
		if p.fits(k) {
			if n == 0 {
				return k
			}
			n--
		}
	}
	return 0 // some were ejected since they were counted
}

func (p *picker) byWeight() int {
	total := 0
	for k := range p.s.Instances {
		if p.fits(k) {
			total += p.s.Instances[k].Weight
		}
	}
	at := rand.IntN(max(total, 1))
	for k := range p.s.Instances {
		if p.fits(k) {
			if at -= p.s.Instances[k].Weight; at < 0 {
				return k
			}
		}
	}
	return 0
}

func (p *picker) lessBusy(n int) int {
	if n == 1 {
		return p.nth(0)
	}
	a := rand.IntN(n)
	b := (a + 1 + rand.IntN(n-1)) % n
	x, y := p.nth(a), p.nth(b)
	if p.load(y) < p.load(x) {
		return y
	}
	return x
}

// load is what is under way at an instance, for its weight.
func (p *picker) load(k int) float64 {
	i := &p.s.Instances[k]
	return float64(p.s.balance.pending(i.ID)+1) / float64(max(i.Weight, 1))
}

func (p *picker) same(n int) int {
	b := p.s.balance
	b.mu.RLock()
	id, known := b.sticky[p.how.text]
	b.mu.RUnlock()
	if known {
		for k := range p.s.Instances {
			if p.s.Instances[k].ID == id && p.fits(k) {
				return k
			}
		}
	}
	k := p.lessBusy(n)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.sticky) < maxSticky || known {
		b.sticky[p.how.text] = p.s.Instances[k].ID
	}
	return k
}

// highest is the winner of a rendezvous: each instance draws a number that
// depends on the key and on itself alone, and the largest wins.
func (p *picker) highest() int {
	best, at := math.Inf(-1), 0
	for k := range p.s.Instances {
		if !p.fits(k) {
			continue
		}
		i := &p.s.Instances[k]
		// In (0, 1); the logarithm makes the chance to win proportional to the weight.
		u := (float64(hash(p.how.text, i.ID)>>11) + 0.5) / (1 << 53)
		if score := -float64(max(i.Weight, 1)) / math.Log(u); score > best {
			best, at = score, k
		}
	}
	return at
}

// hash is FNV-1a with a final mix, the same in every process.
func hash(key, id string) uint64 {
	const prime = 1099511628211
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * prime
	}
	h = (h ^ 0xff) * prime // no text has this byte: it keeps the two apart
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * prime
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
