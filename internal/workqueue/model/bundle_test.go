package model

// together is a configuration whose consumers may take both items together, under one key.
func together(c Config) Config {
	c.Items, c.Bundles, c.There, c.Once = 2, true, true, true
	return c
}

// inParcels is one whose claims of both items make a key of each.
func inParcels(c Config) Config {
	c = together(c)
	c.Parcels = true
	return c
}

func bundleCases() []holdsCase {
	return []holdsCase{
		{"2 items together, 1 consumer; 2 lost replies, visibility, cancel, split by another", false, together(Config{Consumers: 1,
			Faults: Faults{LoseReply: 2, Visibility: 1, Cancel: 1, Split: 1}})},
		{"2 items together, 1 consumer; 2 lost replies, both deletions by hand", false, together(Config{Consumers: 1,
			Faults: Faults{LoseReply: 2, DropOut: 1, DropHere: 1}})},
		{"2 items together, 2 consumers; lost reply", false, together(Config{Consumers: 2, Faults: Faults{LoseReply: 1}})},
		{"2 items together, 2 consumers; lost reply, crash", false, together(Config{Consumers: 2, Faults: Faults{LoseReply: 1, Crash: 1}})},
		{"2 items together, 2 consumers; expiry", false, together(Config{Consumers: 2, Faults: Faults{Expire: 1}})},
		{"2 items together, 2 consumers; 2 lost replies", true, together(Config{Consumers: 2, Faults: Faults{LoseReply: 2}})},
		{"2 items together, 2 consumers; lost reply, visibility, cancel", true, together(Config{Consumers: 2,
			Faults: Faults{LoseReply: 1, Visibility: 1, Cancel: 1}})},
		{"2 items together, 2 consumers; lost reply, expiry", true, together(Config{Consumers: 2, Faults: Faults{LoseReply: 1, Expire: 1}})},
		{"2 items together, 2 consumers; lost reply, both deletions by hand", true, together(Config{Consumers: 2,
			Faults: Faults{LoseReply: 1, DropOut: 1, DropHere: 1}})},
		{"2 items together, 2 callers; lost reply, pause, visibility", false, together(Config{Consumers: 2, Shared: true,
			Faults: Faults{LoseReply: 1, Pause: 1, Visibility: 1}})},
		{"2 items together, 2 callers; lost reply, key by hand", false, together(Config{Consumers: 2, Shared: true,
			Faults: Faults{LoseReply: 1, DropHere: 1}})},
		{"2 items together, 2 callers; 2 lost replies, key by hand", true, together(Config{Consumers: 2, Shared: true,
			Faults: Faults{LoseReply: 2, DropHere: 1}})},
		{"2 items together, 2 callers; lost reply, cancel, split by another, key by hand", true, together(Config{Consumers: 2, Shared: true,
			Faults: Faults{LoseReply: 1, Cancel: 1, Split: 1, DropHere: 1}})},
		{"2 items together, 2 consumers; removal, lost reply, crash", false, together(Config{Consumers: 2, Remove: Empty,
			Faults: Faults{LoseReply: 1, Crash: 1}})},
		{"2 items together, 1 consumer; forced removal, lost reply, visibility", false, together(Config{Consumers: 1, Remove: Forced,
			Faults: Faults{LoseReply: 1, Visibility: 1}})},
		{"2 items together, 2 callers; forced removal", true, together(Config{Consumers: 2, Shared: true, Remove: Forced})},
		{"2 items in parcels, 1 consumer; 2 lost replies, both deletions by hand", false, inParcels(Config{Consumers: 1,
			Faults: Faults{LoseReply: 2, DropOut: 1, DropHere: 1}})},
		{"2 items in parcels, 1 consumer; forced removal, 2 lost replies", false, inParcels(Config{Consumers: 1, Remove: Forced,
			Faults: Faults{LoseReply: 2}})},
		{"2 items in parcels, 2 callers; 2 lost replies, key by hand", true, inParcels(Config{Consumers: 2, Shared: true,
			Faults: Faults{LoseReply: 2, DropHere: 1}})},
	}
}

func bundleDefects() []defectCase {
	lost := Faults{LoseReply: 1}
	lostAndKey := Faults{LoseReply: 1, DropHere: 1}
	lostAndExpiry := Faults{LoseReply: 1, Expire: 1}
	const (
		left   = "left in the queue"
		lie    = "confirmed has no effect"
		comes  = "came back after its ack"
		listed = "not listed"
	)
	return []defectCase{
		{"a bundle of items that have changed", BundleUnchecked, "in two places", together(Config{})},
		{"a bundle without its session", BundleWithoutHere, left, together(Config{Faults: lostAndExpiry})},
		{"a claim of a bundle that is not repeated", BundleNotRepeated, left, together(Config{Faults: lost})},
		{"one that is forgotten with the session's key", BundleForgottenWithKey, left, together(Config{Faults: lostAndKey})},
		{"one that was applied before, and is taken for refused", BundleTakenForRefused, left, together(Config{Faults: lost})},
		{"one in doubt that finds a pause, and is given up", PausedMeansNever, left, together(Config{Faults: Faults{LoseReply: 1, Pause: 1}})},
		{"an ack of a bundle without its revision", BundleAckUnguarded, "applied twice", together(Config{Faults: lost})},
		{"one whose doubt is forgotten", BundleAckForgotten, "called stale has its effect", together(Config{Faults: lost})},
		{"one that is given up with its bundle", BundleAckLeft, left, together(Config{Faults: Faults{Cancel: 1}})},
		{"a split without the bundle's revision", SplitUnguarded, comes, together(Config{Faults: lost})},
		{"one that is not repeated", SplitNotRepeated, left, together(Config{Faults: lost})},
		{"one that forgets the token", SplitForgetsToken, left, together(Config{Faults: lost})},
		{"an ack after a split that compares the token", SplitByToken, left, together(Config{Faults: lost})},
		{"a refused split that takes what is gone for acked", SplitMeansAcked, lie, together(Config{Faults: Faults{Expire: 1}})},
		{"one that does so after an ack in doubt", SplitMeansAckedInDoubt, lie, together(Config{Faults: lostAndExpiry})},
		{"one that does so in a removal", SplitMeansAckedInDoubt, lie, together(Config{Consumers: 1, Remove: Forced, Faults: lost})},
		{"one that takes a later delivery for its own", AnyIsOurs, lie, together(Config{Shared: true, Faults: lostAndKey})},
		{"an inheritance of a living session's bundle", BundleInheritUnguarded, lie, together(Config{Faults: lost})},
		{"an inheritance of a bundle that is gone", BundleInheritAny, comes, together(Config{Faults: lostAndExpiry})},
		{"nobody inherits bundles", BundlesUnnoticed, left, together(Config{Faults: Faults{Expire: 1}})},
		{"a mark that goes before the bundle", TidyMindsSingles, left, together(Config{Faults: Faults{Expire: 1}})},
		{"a removal of a queue with a bundle", RemoveMindsSingles, listed, together(Config{Remove: Empty, Faults: Faults{Expire: 1}})},
		{"a forced one", RemoveMindsSingles, listed, together(Config{Consumers: 1, Remove: Forced})},
		{"a bundle that is deleted without its session's key", BundleDropKeepsHere, lie, together(Config{Consumers: 1, Remove: Forced, Faults: lost})},
		{"a claim in parcels that takes the first for all, by hand", FirstForAll, lie, inParcels(Config{Shared: true, Faults: Faults{LoseReply: 2, DropHere: 1}})},
		{"one that does so in a removal of parcels", FirstForAll, lie, inParcels(Config{Consumers: 1, Remove: Forced, Faults: Faults{LoseReply: 2}})},
		{"one that takes none because the first is gone", FirstForNone, left, inParcels(Config{Consumers: 1, Faults: Faults{LoseReply: 1, DropOut: 1}})},
		{"one that does so under a new key", FirstForNone, left, inParcels(Config{Shared: true, Faults: lostAndKey})},
	}
}
