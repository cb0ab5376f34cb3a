// Package rules holds the rules of the house as ordinary tests.
//
// Each rule is a function from facts about the repository (what go list says,
// or the text of its files) to violations, and each violation carries the
// rule's reason. The tests apply the rules to this repository, and to small
// fixtures that break them, so that every rule is known to be able to fail.
//
// Documentation snippets and golden lists are rewritten with
//
//	go test ./internal/rules -update
package rules
