// The public face of @fanfare/react. (Empty yet.)
'use client'

export {}
