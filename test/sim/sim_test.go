package main

import (
	"bytes"
	"io"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestEverythingOnce runs each scenario with one seed.
func TestEverythingOnce(t *testing.T) {
	for _, s := range allScenarios() {
		if r := runSeed(s, 7, nil); r.bad != nil {
			t.Errorf("%v", &r)
		}
	}
}

// TestEqualSeedsRunAlike is what makes a seed a bug report: two runs of a seed do
// the same things at the same times, told or not.
func TestEqualSeedsRunAlike(t *testing.T) {
	for _, s := range storms() {
		for seed := uint64(1); seed <= 3; seed++ {
			var told bytes.Buffer
			a, b := runSeed(s, seed, nil), runSeed(s, seed, &told)
			if a.hash != b.hash || a.acks != b.acks || a.took != b.took {
				t.Errorf("%s, seed %d: trace %016x then %016x, %d then %d acknowledged", s.name, seed, a.hash, b.hash, a.acks, b.acks)
			}
			if told.Len() == 0 {
				t.Errorf("%s, seed %d: nothing was told", s.name, seed)
			}
		}
		if a, b := runSeed(s, 1, nil), runSeed(s, 2, nil); a.hash == b.hash {
			t.Errorf("%s: seeds 1 and 2 run alike", s.name)
		}
	}
}

// TestEveryRuleHasATest is what make sim prints first.
func TestEveryRuleHasATest(t *testing.T) {
	if err := printRules(io.Discard, filepath.Join("../..", rulesFile)); err != nil {
		t.Error(err)
	}
}

// TestEveryPlantedBugIsARule keeps patches from being forgotten.
func TestEveryPlantedBugIsARule(t *testing.T) {
	files, err := filepath.Glob("planted/*.patch")
	if err != nil || len(files) == 0 {
		t.Fatalf("no planted bugs: %v", err)
	}
	_, guards, err := readRules(filepath.Join("../..", rulesFile))
	if err != nil {
		t.Fatal(err)
	}
	var named []byte
	for _, g := range guards {
		named = append(named, g+", "...)
	}
	for _, f := range files {
		name := "planted/" + f[len("planted/"):len(f)-len(".patch")] + ", "
		if !bytes.Contains(named, []byte(name)) {
			t.Errorf("%s guards no rule in %s", f, rulesFile)
		}
	}
}

// TestTimeNeverGoesBack: not even if somebody has no time left to run.
func TestTimeNeverGoesBack(t *testing.T) {
	w := newWorld(1, nil)
	w.run(time.Second)
	w.run(-time.Millisecond)
	if w.now != time.Second {
		t.Errorf("time is %v, want 1 s", w.now)
	}
}

// TestTimeline: what is set earlier for the same moment happens earlier.
func TestTimeline(t *testing.T) {
	var tl timeline
	var got []int
	for i, d := range []time.Duration{3, 1, 2, 1, 3, 0, 2} {
		tl.after(d, func() { got = append(got, i) })
	}
	for {
		m, ok := tl.next(10)
		if !ok {
			break
		}
		m.do()
	}
	if want := []int{5, 1, 3, 2, 6, 0, 4}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
	if tl.now != 10 {
		t.Errorf("time is %d at the end, want 10", tl.now)
	}
}
