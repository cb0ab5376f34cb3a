package workqueue

// claimOps is how many operations a claim has at most, beside a few of its own.
const claimOps = 2 * (bundleItems + 1)

// A parcel is a part of a claim: items that go to one caller.
type parcel struct {
	from, to int // of the batch
	bytes    int
	key      string // of the bundle that they become, "" for one item
}

func (p *parcel) items() int { return p.to - p.from }

// cutter cuts a claim into parcels, item by item.
type cutter struct {
	d        *Dock
	waiting  []int // how many items each caller wants who is not served by what is under way
	most     int   // and those who are to come
	left     int   // of the caller whose parcel is the last one
	ops      int
	parcels  []parcel
	together bool // the last parcel may have more items
}

// cutter returns one for a claim behind others that will give so many items to those
// who wait.
func (d *Dock) cutter(underWay int) *cutter {
	c := &cutter{d: d}
	d.mu.Lock()
	defer d.mu.Unlock()
	c.most = max(d.most, 1)
	for _, t := range d.waiting {
		served := min(underWay, t.max)
		if underWay -= served; t.max > served {
			c.waiting = append(c.waiting, t.max-served)
		}
	}
	return c
}

// add appends the next item of the batch, and reports false if it has no room. Items of
// groups stay on their own, since their acks write what is not theirs alone, and those of
// sessions that hosts serve, since other hosts settle them.
func (c *cutter) add(i int, item *chosen) bool {
	alone, size := c.d.e.Borrowed() || item.rec.Group != "" || !bundleable(item.id), len(item.value)
	if last := len(c.parcels) - 1; last >= 0 && c.together && !alone && c.left > 0 {
		if p := &c.parcels[last]; p.items() < bundleItems && p.bytes+size <= bundleBytes {
			p.to, p.bytes = i+1, p.bytes+size
			c.left, c.ops = c.left-1, c.ops+1
			return true
		}
	}
	if c.left == 0 {
		c.next()
	}
	ops := 2
	if c.d.e.Borrowed() {
		ops = 3
	}
	room := ops
	if !alone && i > 0 { // a caller's items are not torn apart for want of room
		room = max(ops, 1+min(c.left, bundleItems))
	}
	if c.ops+room > claimOps {
		return false
	}
	c.parcels, c.together = append(c.parcels, parcel{from: i, to: i + 1, bytes: size}), !alone
	c.left, c.ops = c.left-1, c.ops+ops
	return true
}

// next goes on to the next caller.
func (c *cutter) next() {
	c.left = c.most
	if len(c.waiting) > 0 {
		c.left, c.waiting = c.waiting[0], c.waiting[1:]
	}
}

// done returns the parcels.
func (c *cutter) done() []parcel {
	for i := range c.parcels {
		if p := &c.parcels[i]; p.items() > 1 {
			p.key = c.d.root.bundle(c.d.lease, p.items(), c.d.puts.NewID())
		}
	}
	return c.parcels
}
