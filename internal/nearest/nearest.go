// Package nearest tells how far apart two names are, for complaints that propose what may have been
// meant.
package nearest

// most is how many bytes of the first name are looked at: it is the user's, and may be anything.
const most = 64

// Distance is the Levenshtein distance of two names: how many bytes must be put in, left out or
// changed to make one of the other.
func Distance(a, b string) int {
	a = a[:min(len(a), most)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			last, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, last+cost)
		}
	}
	return row[len(b)]
}
