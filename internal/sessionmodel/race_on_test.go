//go:build race

package sessionmodel

// raceEnabled: the searches have no goroutines to race, and run ten times slower
// when they are watched.
const raceEnabled = true
