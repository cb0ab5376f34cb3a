package discovery

import (
	"cmp"
	"maps"
	"slices"
)

func (t *table) set(id string, i Instance) {
	if _, known := t.byID[id]; !known {
		k, _ := slices.BinarySearch(t.ids, id)
		t.ids = slices.Insert(t.ids, k, id)
	}
	t.byID[id] = i
}

func (t *table) remove(id string) {
	if _, known := t.byID[id]; known {
		k, _ := slices.BinarySearch(t.ids, id)
		t.ids = slices.Delete(t.ids, k, k+1)
		delete(t.byID, id)
	}
}

// usable counts the instances that can be sent to.
func (t *table) usable() int {
	n := 0
	for _, i := range t.byID {
		if i.State.Usable() {
			n++
		}
	}
	return n
}

func sortByID(all []Instance) {
	slices.SortFunc(all, func(a, b Instance) int { return cmp.Compare(a.ID, b.ID) })
}

// same reports whether a reader has nothing to learn.
func same(a, b *Instance) bool {
	return a.ID == b.ID && a.Addr == b.Addr && a.State == b.State && a.Token == b.Token && a.Weight == b.Weight && a.Zone == b.Zone &&
		a.Version == b.Version && a.Owner == b.Owner && a.Since.Equal(b.Since) && slices.Equal(a.Tags, b.Tags) && maps.Equal(a.Metadata, b.Metadata) &&
		slices.Equal(a.Checks, b.Checks) && a.Health.same(b.Health)
}
