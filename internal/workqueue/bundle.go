package workqueue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// bundleItems is how many deliveries one key holds at most: what falls apart is put
	// in one transaction.
	bundleItems = 56
	// maxShares is how many are taken out of one that somebody else wrote.
	maxShares = 112
	// bundleBytes bounds its value, which etcd reads for each comparison.
	bundleBytes = 64 << 10
)

// A bundle is deliveries that one caller takes, under one key: to claim them is one
// put for all, and to ack them all is one deletion. Whatever is done with one of them
// comes after they were split, each to its own key.
type bundle struct {
	d   *Dock
	key string
	rev int64
	all []*Delivery

	turn chan struct{} // taken by whoever splits
	gone atomic.Bool   // each has its own key, if any: see Delivery.mod
}

// bind makes a bundle, claimed at a revision, of deliveries.
func (d *Dock) bind(key string, rev int64, all []*Delivery) {
	b := &bundle{d: d, key: key, rev: rev, all: all, turn: make(chan struct{}, 1)}
	for _, v := range all {
		v.in = b
	}
}

// share is one delivery of a bundle as it stands in etcd.
type share struct {
	id  string
	rec Record
}

// bundleHead is the line in front of the records of a bundle.
type bundleHead struct {
	V     int      `json:"v"`
	IDs   []string `json:"ids"`
	Sizes []int    `json:"sizes"` // of the records that follow, in bytes
}

// encodeBundle writes the records of a parcel.
func encodeBundle(batch []chosen) string {
	h := bundleHead{V: recordVersion, IDs: make([]string, len(batch)), Sizes: make([]int, len(batch))}
	size := 0
	for i := range batch {
		h.IDs[i], h.Sizes[i] = batch[i].id, len(batch[i].value)
		size += len(batch[i].value)
	}
	line, _ := json.Marshal(h) // plain fields always marshal
	var b strings.Builder
	b.Grow(len(line) + 1 + size)
	b.Write(line)
	b.WriteByte('\n')
	for i := range batch {
		b.WriteString(batch[i].value)
	}
	return b.String()
}

// decodeBundle reads what encodeBundle wrote.
func decodeBundle(value []byte) ([]share, error) {
	line, rest, ok := bytes.Cut(value, []byte("\n"))
	var h bundleHead
	if err := json.Unmarshal(line, &h); err != nil || !ok || h.V < recordVersion || len(h.IDs) != len(h.Sizes) || len(h.IDs) > maxShares {
		return nil, errors.Join(errBundle, err)
	}
	shares := make([]share, 0, len(h.IDs))
	for i, n := range h.Sizes {
		id := h.IDs[i]
		if n < 0 || n > len(rest) || !bundleable(id) || slices.ContainsFunc(shares, func(s share) bool { return s.id == id }) {
			return nil, errBundle
		}
		rec, err := decode(rest[:n:n])
		if err != nil {
			return nil, err
		}
		shares, rest = append(shares, share{id, rec}), rest[n:]
	}
	return shares, nil
}

var errBundle = fmt.Errorf("%w: not a bundle of them", ErrRecord)

// bundleable tells whether a bundle can hold an item of that id: any but one that a hand
// wrote.
func bundleable(id string) bool {
	return id != "" && utf8.ValidString(id) && !strings.Contains(id, "/")
}

// bundle returns the key of a bundle of n items. Its id is its own: a claim in doubt knows
// by it what it made.
func (k keys) bundle(lease string, n int, id string) string {
	return k.bundlesOf(lease) + strconv.Itoa(n) + "/" + id
}

// bundled returns how many items a key tells of: one, but for that of a bundle.
func (k keys) bundled(key string) int {
	rest, ok := strings.CutPrefix(key, k.bundles())
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 {
		return 1
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil || n < 1 || n > maxShares {
		return 1 // nobody wrote that
	}
	return n
}

// count returns the read that [keys.items] takes the number of items in a place from.
func (k keys) count(place string) clientv3.Op {
	if place == k.bundles() {
		return all(place, clientv3.WithKeysOnly()) // which tell how many there are
	}
	return all(place, clientv3.WithCountOnly())
}

// items returns how many items counts tell of.
func (k keys) items(counts ...*pb.ResponseOp) (n int) {
	for _, c := range counts {
		r := c.GetResponseRange()
		n += int(r.GetCount())
		for _, kv := range r.GetKvs() {
			n += k.bundled(string(kv.Key)) - 1
		}
	}
	return n
}
