// Empu's logo: the wavy blade of a keris.

export function Logo({ size = 22 }: { size?: number }) {
  return (
    <svg className="logo" width={size} height={size} viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="9" />
      <path d="M16 5c4 3-4 5 0 8s-4 5 0 8 0 4 0 6" fill="none" strokeWidth="3" strokeLinecap="round" />
    </svg>
  );
}
