// The error of a form; an empty one takes no room.

export function FormError({ message }: { message: string }) {
  return (
    <p className="error" role="alert">
      {message}
    </p>
  );
}
