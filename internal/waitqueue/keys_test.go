package waitqueue

import "testing"

// Keys of tickets have the order of their buckets as texts, with whatever id, and
// the ranges that end at a bucket end there.
func TestBucketsAreInOrder(t *testing.T) {
	k := keysOf("/conclave/default/election/x/")
	last, before := "", k.line().from
	for priority := MaxPriority; priority >= MinPriority; priority-- {
		for rank := range MaxRank + 1 {
			b := rankedBucket(priority, rank)
			ticket := k.ticket(b, "0000000000000001-x")
			if ticket <= last {
				t.Fatalf("%s is not after %s", ticket, last)
			}
			above, own := k.above(b), k.bucket(b)
			if last != "" && (last < above.from || last >= above.end) || ticket < above.end {
				t.Fatalf("above %s is %q", ticket, above)
			}
			if ticket < own.from || ticket >= own.end || last >= own.from {
				t.Fatalf("the bucket of %s is %q", ticket, own)
			}
			if got, id, err := k.ticketID(ticket); err != nil || got != b || id != "0000000000000001-x" {
				t.Fatalf("%s reads as %v, %q, %v", ticket, got, id, err)
			}
			if own.from < before {
				t.Fatalf("%q begins before %q ends", own.from, before)
			}
			last, before = ticket, own.end
		}
	}
}

func TestForeignBuckets(t *testing.T) {
	k := keysOf("/conclave/default/election/x/")
	for _, b := range []string{"", "7", "7F", "7f0", "7f10", "+f", "7g", "7f "} {
		if got, id, err := k.ticketID(k.prefix + linePart + b + "/id"); err == nil {
			t.Errorf("%q reads as bucket %v, id %q", b, got, id)
		}
	}
}
